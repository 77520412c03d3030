"""The policy scans find what they are for, and find nothing in this repository."""

from __future__ import annotations

import pytest

from scripts.compliance import personal_data_in, scan, secrets_in, tracked_files

PLANTED = {
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----\\nMIIEpAIBAAKCAQEA7bq8W1",
    "storage account key": "DefaultEndpointsProtocol=https;AccountName=x;Account" + "Key=" + "q" * 86 + "==",
    "shared access key": "Endpoint=sb://x;Shared" + "AccessKey=" + "a1" * 20 + "=",
    "shared access signature": "https://x.blob.core.windows.net/a?sv=2024&s" + "ig=" + "aB3%" * 12,
    "GitHub token": "gh" + "p_" + "a1B2" * 9,
    "AWS key": "AKI" + "AIOSFODNN7EXAMPLE",
    "JSON web token": "ey" + "J" + "a" * 24 + ".ey" + "J" + "b" * 24 + "." + "c" * 20,
    "password in a URL": "postgres://user:" + "hunter2222" + "@db.example.com/x",
    "password": "client_" + "secret = 'correct-horse-battery'",
}


@pytest.mark.parametrize("rule", PLANTED)
def test_a_planted_secret_is_found_and_not_repeated(rule: str) -> None:
    findings = list(secrets_in("a.py", f"x = 1\n{PLANTED[rule]}\n"))
    assert (rule, 2) in [(one.rule, one.line) for one in findings]
    assert all(PLANTED[rule] not in str(one) for one in findings)


@pytest.mark.parametrize(
    "line",
    [
        "AccountKey={KEY};",
        "LAKE: UseDevelopmentStorage=true",
        "https://{user}:{password}@host",
        "password = getpass()",
        "sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'",
    ],
)
def test_what_is_no_secret_is_left_alone(line: str) -> None:
    assert list(secrets_in("a.py", line)) == []


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("s1,anna.smith" + "@gmail.com", "e-mail address"),
        ("s1,(206) " + "555-0142", "telephone number"),
        ("219-09" + "-9999", "social security number"),
        ("4111 1111 " + "1111 1111", "payment card"),
        ("GB29 NWBK " + "6016 1331 9268 19", "IBAN"),
    ],
)
def test_planted_personal_data_is_found(line: str, rule: str) -> None:
    assert rule in [one.rule for one in personal_data_in("tests/a.csv", line)]


@pytest.mark.parametrize(
    "line", ["planning@example.com", "2017-11-06,12,4.25", "1234 5678 9012 3456", "store-206-555-01"]
)
def test_invented_and_published_values_are_left_alone(line: str) -> None:
    assert list(personal_data_in("tests/a.csv", line)) == []


def test_this_repository_holds_none() -> None:
    assert scan(tracked_files()) == []
