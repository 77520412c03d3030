"""Let the app's identity into the results database; run once an environment, by somebody of the administrators' group.

python -m scripts.sql_access [--print]     SQL_SERVER_HOST, SQL_DATABASE and APP_IDENTITY_NAME come from the environment

Azure SQL has no resource for this, so it is SQL: a user without a password, who may read, write and migrate the tables.
"""

from __future__ import annotations

import argparse
import os
import re
import sys

ROLES = ("db_datareader", "db_datawriter", "db_ddladmin")


def statements(identity: str) -> list[str]:
    """Return the statements; safe to repeat. Raise ValueError for a name that is no identity's."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{2,127}", identity):
        raise ValueError(f"{identity!r} is not the name of a managed identity")
    user = f"IF DATABASE_PRINCIPAL_ID('{identity}') IS NULL CREATE USER [{identity}] FROM EXTERNAL PROVIDER"
    return [user, *(f"ALTER ROLE {role} ADD MEMBER [{identity}]" for role in ROLES)]


def main(arguments: list[str] | None = None) -> int:
    """Execute the statements as whoever is signed in, or print them."""
    parser = argparse.ArgumentParser(description="Let the app's identity into the results database.")
    parser.add_argument("--print", action="store_true", dest="only_print")
    wish = parser.parse_args(arguments)
    lines = statements(os.environ.get("APP_IDENTITY_NAME", "id-shelfcast-app-dev"))
    if wish.only_print:
        print(";\n".join(lines) + ";")
        return 0
    import mssql_python

    target = f"Server={os.environ['SQL_SERVER_HOST']};Database={os.environ['SQL_DATABASE']};Encrypt=yes"
    with mssql_python.connect(f"{target};Authentication=ActiveDirectoryDefault") as connection:
        for line in lines:
            connection.cursor().execute(line)
        connection.commit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
