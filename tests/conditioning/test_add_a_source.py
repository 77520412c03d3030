"""Adding a source is three files: done here exactly as docs/add-a-source.md says, from its own text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conditioning.conftest import ROOT

PAGE = ROOT / "docs" / "add-a-source.md"
_ADD = ("domain", "conditioning", "http_api.py")
_INDEX = """
import json, azure.functions as func
from conditioning.functions import blueprint
app = func.FunctionApp()
app.register_functions(blueprint)
print(json.dumps([item.get_function_name() for item in app.get_functions()]))
"""


def test_the_page_s_three_files_make_a_source(tmp_path: Path) -> None:
    blocks = re.findall(r"```(\w*)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    raw, contract, column_map, module, command = (text for _, text in blocks)
    for name in _ADD:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "conditioning" / "contracts" / "competitor_prices.json").write_text(contract)
    (tmp_path / "conditioning" / "column_maps" / "competitor_prices.csv").write_text(column_map)
    (tmp_path / "conditioning" / "sources" / "competitor_prices.py").write_text(module)
    (tmp_path / "prices_2017-W45.csv").write_text(raw)

    words = command.split()
    assert words[:3] == ["python", "-m", "conditioning"]
    done = subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["status"] == "accepted"
    assert (tmp_path / "out" / "data.csv").read_text().splitlines() == [
        "store_id,product_id,week_start,price,source_file,source_row",
        "S00001,P00001,2017-11-06,1.99,prices_2017-W45.csv,1",
    ]
    index = subprocess.run([sys.executable, "-c", _INDEX], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "condition_competitor_prices_arrived" in json.loads(index.stdout)
