"""Write infra/modules/alert-rules.bicep: a rule for each query of infra/alerts, as its rules.json says.

python -m scripts.alert_rules [--check]

Bicep could loop over the table, but then no checker sees which query belongs to which rule: so each is written out.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
QUERIES = ROOT / "infra" / "alerts"
TABLE = QUERIES / "rules.json"
TARGET = ROOT / "infra" / "modules" / "alert-rules.bicep"

_HEAD = """// Written by `python -m scripts.alert_rules` from infra/alerts/rules.json and its queries. Do not edit.

param environmentName string
param location string
param tags object
@description('Application Insights, whose events the rules read.')
param componentId string
param urgentGroupId string
param workdayGroupId string
@description('Page with a section a rule: what it means and what to do.')
param runbookUrl string
"""


@dataclass(frozen=True)
class Rule:
    """One alert: every query answers rows with the column `hits`; a row is an alert."""

    name: str
    title: str
    description: str
    severity: int
    frequency: str
    window: str
    dimensions: tuple[str, ...]
    mitigate: bool

    @classmethod
    def from_table(cls, name: str, row: dict[str, Any]) -> Rule:
        """Join a row of the table with the first line of its query; raise FileNotFoundError without a query."""
        first = (QUERIES / f"{name}.kql").read_text("utf-8").splitlines()[0]
        description = first.removeprefix("//").strip().replace("'", "\\'")
        return cls(
            name, row["title"], description, row["severity"], row["frequency"], row["window"],
            tuple(row["dimensions"]), row["mitigate"],
        )

    def bicep(self) -> str:
        """The resource, as Bicep."""
        symbol = "".join(part.capitalize() for part in self.name.split("_"))
        symbol = symbol[0].lower() + symbol[1:]
        dimensions = "".join(
            f"\n            {{\n              name: '{name}'\n"
            "              operator: 'Include'\n              values: [\n"
            "                '*'\n              ]\n            }"
            for name in self.dimensions
        )
        dimensions += "\n          " if dimensions else ""
        group = "urgentGroupId" if self.severity <= 1 else "workdayGroupId"
        return f"""
resource {symbol} 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {{
  name: 'shelfcast-{self.name.replace("_", "-")}-${{environmentName}}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {{
    displayName: 'Shelfcast: {self.title}'
    description: '{self.description}'
    severity: {self.severity}
    enabled: true
    autoMitigate: {"true" if self.mitigate else "false"}
    scopes: [
      componentId
    ]
    evaluationFrequency: '{self.frequency}'
    windowSize: '{self.window}'
    criteria: {{
      allOf: [
        {{
          query: loadTextContent('../alerts/{self.name}.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [{dimensions}]
          failingPeriods: {{
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }}
        }}
      ]
    }}
    actions: {{
      actionGroups: [
        {group}
      ]
      customProperties: {{
        runbook: '${{runbookUrl}}#{self.name}'
      }}
    }}
  }}
}}
"""


def render() -> str:
    """Return the whole module; raise ValueError if a query has no row or a row no query."""
    table = json.loads(TABLE.read_text("utf-8"))
    queries = {path.stem for path in QUERIES.glob("*.kql")}
    if queries != set(table):
        raise ValueError(f"queries and rows of {TABLE.name} differ: {sorted(queries ^ set(table))}")
    return _HEAD + "".join(Rule.from_table(name, table[name]).bicep() for name in sorted(table))


def main(arguments: list[str] | None = None) -> int:
    """Write the module; with --check only say whether it is current (exit 1 if not)."""
    parser = argparse.ArgumentParser(description="Write the alert rules of infra/ from their table.")
    parser.add_argument("--check", action="store_true")
    wish = parser.parse_args(arguments)
    text = render()
    if wish.check:
        current = TARGET.exists() and TARGET.read_text("utf-8") == text
        print("alert rules are current" if current else "alert rules are old: run python -m scripts.alert_rules")
        return 0 if current else 1
    TARGET.write_text(text, "utf-8")
    print(f"{TARGET.relative_to(ROOT)}: {text.count('scheduledQueryRules@')} rules")
    return 0


if __name__ == "__main__":
    sys.exit(main())
