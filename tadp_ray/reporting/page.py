"""The HTML page that a table is set into."""

from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
  :root { color-scheme: light dark; --ink: #1c2024; --soft: #6b7280; --line: #e3e6ea; --paper: #ffffff;
          --best: #e7f4ee; --best-ink: #0b6b43; --open: #9a5b00; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e8eaed; --soft: #9aa3ad; --line: #31363c; --paper: #16181b; --best: #12352a; --best-ink: #7fd8b0;
            --open: #e0a458; } }
  body { margin: 3rem auto; max-width: 60rem; padding: 0 1.5rem; background: var(--paper); color: var(--ink);
         font: 16px/1.5 system-ui, sans-serif; }
  h1 { font-size: 1.35rem; font-weight: 600; margin: 0 0 1.5rem; }
  .frame { overflow-x: auto; }
  table { border-collapse: collapse; min-width: 60%; font-variant-numeric: tabular-nums; }
  thead { border-bottom: 2px solid var(--ink); }
  th { font-weight: 600; padding: .35rem 1.4rem; text-align: right; }
  th:first-child { text-align: left; padding-left: 0; }
  .axis th { color: var(--soft); font-weight: 400; font-size: .85rem; text-align: center; padding-bottom: 0; }
  .axis th:first-child { text-align: left; }
  tbody tr { border-bottom: 1px solid var(--line); }
  td { padding: .6rem 1.4rem; text-align: right; white-space: nowrap; }
  td small { display: block; color: var(--soft); }
  td.best { background: var(--best); }
  td.best span { font-weight: 700; color: var(--best-ink); }
  td.open span { color: var(--open); }
  p, li { color: var(--soft); font-size: .9rem; max-width: 46rem; }
  ul { padding-left: 1.1rem; }
</style>
<h1>$title</h1>
<div class="frame">
<table>
<thead>
<tr class="axis"><th></th><th colspan="$span">$column_label</th></tr>
<tr><th>$row_label</th>$head</tr>
</thead>
<tbody>
$rows
</tbody>
</table>
</div>
<p>$caption</p>
<ul>$notes</ul>
</html>
""")
