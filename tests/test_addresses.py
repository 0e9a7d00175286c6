"""No address tells its secret, and none that has none is changed."""

import time

import pytest

from tadp_ray.addresses import holds_secret, masked
from tadp_ray.errors import UserError

SECRET = [
    ("postgresql://me:geheim@db:5432/mlflow", "postgresql://me:***@db:5432/mlflow"),
    ("http://me:geh/e@im@host/x", "http://me:***@host/x"),
    ("https://ghp_geheim@host/x", "https://***@host/x"),
    ("s3://AKIA:geh/eim+=@bucket/runs", "s3://***@bucket/runs"),
    ("s3://geheim@bucket", "s3://***@bucket"),
    ("GS://geheim:x@bucket", "GS://***@bucket"),
    ("s3://b/f?access_key=geheim&secret_key=geheim&region=eu", "s3://b/f?access_key=***&secret_key=***&region=eu"),
    ("https://h/x?a=1&Client_Secret=geheim", "https://h/x?a=1&Client_Secret=***"),
    ("https://h/x?PASSWORD=geheim#top", "https://h/x?PASSWORD=***"),
    ("https://h/x?X-Amz-Signature=geheim&X-Amz-Credential=geheim", "https://h/x?X-Amz-Signature=***&X-Amz-Credential=***"),
    ("https://h/x#access_token=geheim", "https://h/x#access_token=***"),
    ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dgeheim", "mssql+pyodbc:///?odbc_connect=***"),
    ("abfs://c@a/x;AccountKey=geheim==;b=1", "abfs://c@a/x;AccountKey=***"),
]  # fmt: skip
OPEN = [
    "sqlite:////tmp/a:b@c/mlflow.db",
    "http://127.0.0.1:5000/#/experiments/1",
    "hdfs://me@namenode:8020/runs/x@y",
    "abfs://container@account.dfs.core.windows.net/runs",
    "s3://bucket/folder@v1?endpoint_override=127.0.0.1:9000&scheme=http",
    "postgresql://me@db/mlflow?sslmode=require",
    "caption.precision=0.5 and key=value",
    "data.root=/data/me@home:8/photos",
]


@pytest.mark.parametrize(("address", "shown"), SECRET)
def test_what_is_secret_in_an_address_is_masked(address: str, shown: str) -> None:
    assert masked(address) == shown and holds_secret(address)
    assert masked(f"--tracking-uri {address} 'and more'") == f"--tracking-uri {shown} 'and more'"
    assert "geh" not in str(UserError(f"cannot reach {address}: mend it"))


@pytest.mark.parametrize("text", OPEN)
def test_what_is_not_secret_stays(text: str) -> None:
    assert masked(text) == text and not holds_secret(text)


@pytest.mark.parametrize(
    "unit", ["://a:", "https://", "s3://:", "://a@", "?key", "?key=", "a?keykey", "http://h/?a=1&key=@"]
)
def test_long_texts_cost_little(unit: str) -> None:
    """What reads addresses reads whole files of settings, which may be made to be slow."""
    began = time.process_time()
    masked(unit * (256 * 1024 // len(unit)))
    assert time.process_time() - began < 2
