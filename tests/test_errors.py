"""What is said of mistakes, and what is not repeated."""

from __future__ import annotations

import pytest

from galbatch.errors import SpecError, refuse_secrets


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@host/a.csv",
        "https://host/a.csv?X-Amz-Signature=secret",
        "https://host/a.csv?x=1&sig=secret",
        "https://host/a.csv?access_token=secret",
        "s3://bucket/a?AWSAccessKeyId=secret",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SpecError) as refused:
        refuse_secrets(url, "source.paths")
    assert "secret" not in str(refused.value).lower()


@pytest.mark.parametrize("url", ["s3://bucket/keys/a.csv", "https://host/a.csv?release=3"])
def test_a_url_without_a_secret_is_taken(url: str) -> None:
    refuse_secrets(url, "source.paths")
