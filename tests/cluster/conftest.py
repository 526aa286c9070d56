from pathlib import Path

import pytest
from localcluster.paths import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "run").mkdir()
    return Layout(tmp_path / "run", tmp_path / "bin", api_port=16443, etcd_port=12379, node_ip="10.0.0.5")
