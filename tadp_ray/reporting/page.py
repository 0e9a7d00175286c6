"""The HTML page that tables, pictures and words are set into: it loads nothing, and follows the reader's light or dark."""

from html import escape
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
  main > section { margin-top: 3.5rem; }
  h2 { font-size: 1.3rem; margin: 4rem 0 0; padding-bottom: .3rem; border-bottom: 2px solid var(--ink); }
  h3 { font-size: 1.05rem; font-weight: 600; margin: 0 0 .3rem; }
  p.question { color: var(--ink); font-size: 1rem; }
  p.said { color: var(--ink); }
  p.missing { color: var(--open); }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .6rem .8rem; background: var(--best);
        border-radius: 4px; font-size: .85rem; }
  figure { margin: 1rem 0; }
  img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
  figcaption, summary, dd, dt { color: var(--soft); font-size: .85rem; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .8rem 0; }
  dd { margin: 0; }
  h1, h2, h3, p, li, dd { overflow-wrap: anywhere; }
  .words td, .words th { text-align: left; white-space: normal; padding: .35rem 1rem .35rem 0; vertical-align: top; }
  .contents li { color: var(--ink); }
  .contents em { color: var(--soft); font-style: normal; }
  .contents em.open { color: var(--open); font-weight: 600; }
  .words td:first-child { min-width: 11rem; }
  .words td:not(:first-child) { white-space: nowrap; }
  td.fails span { color: var(--open); font-weight: 600; }
  a { color: inherit; }
  @media (max-width: 40rem) {
    body { margin: 1.5rem auto; padding: 0 1rem; }
    figure img { max-width: none; width: 44rem; }
    td, th { padding-left: .7rem; padding-right: .7rem; } }
</style>
<main>
<h1>$title</h1>
$body
</main>
</html>
""")


def page(title: str, body: str) -> str:
    """A page of its own; `body` is HTML, the title plain text."""
    return PAGE.substitute(title=escape(title), body=body)
