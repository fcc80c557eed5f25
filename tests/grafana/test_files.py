"""The dashboards for Grafana by themselves: filters, names, places, colours, links; and how the files are written."""

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from typer.testing import CliRunner

from monitor.commands.main import app
from monitor.config import reader
from monitor.flow import sink
from monitor.grafana.dashboards import tag_variables
from monitor.grafana.panels import CONTROL
from monitor.grafana.provisioning import MANIFEST, ForeignFiles, data_source, files, write
from monitor.serve.health_ranges import CONNECTIONS
from tests.support.grafana_case import DC, MIRROR, ROOT, dashboards_of, documented_health, golden_config
from tests.support.grafana_plugin import Json, current, panels, request
from tests.support.messages import shop
from tests.support.strategies import to_toml

SHOP = ROOT / "examples/shop/monitor.toml"


@pytest.fixture(scope="module")
def dashboards() -> dict[str, Json]:
    """All dashboards of the log's configuration, by title."""
    return dashboards_of(reader.parse(golden_config()))


@pytest.mark.parametrize("file", [SHOP, None], ids=["example", "golden"])
def test_every_target_looks_at_one_data_center(file: Path | None) -> None:
    """`dc` is a filter of every target; its variable always has one value, out of those that were given, and no target
    depends on a question that may find nothing."""
    settings = reader.load(file, {}) if file else reader.parse(golden_config())
    for dashboard in dashboards_of(settings).values():
        variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
        assert {variable["type"] for variable in variables.values()} <= {"custom", "constant"}
        assert (variables["dc"]["multi"], variables["dc"]["includeAll"]) == (False, False)
        assert [option["value"] for option in variables["dc"]["options"]] == [DC, MIRROR]
        for panel in panels(dashboard, current(dashboard)):
            for metric in request(panel, 0, 1, 60)["metrics"]:
                assert metric["tags"]["dc"] == [DC]


def test_all_of_a_tag_is_no_filter_and_its_values_are_one(dashboards: dict[str, Json]) -> None:
    """A tenant without the tag is there as long as nothing is chosen; several values are several."""
    dashboard = dashboards["Experiment fast_checkout"]
    chosen: list[dict[str, Any]] = [{}, {"tag_device": ["mobile"]}, {"tag_device": ["mobile", "other"]}]
    filters = []
    for values in chosen:
        panel = next(panels(dashboard, current(dashboard, **values)))
        filters.append(request(panel, 0, 1, 60)["metrics"][0]["tags"].get("device"))
    assert filters == [None, ["mobile"], ["mobile", "other"]]


WITHOUT_RANGE = {"monitor.notice", "monitor.largest_visit.value"}
"""No status depends on the one; the other is in a unit of each point."""


def test_every_health_metric_has_a_panel_with_its_normal_range(dashboards: dict[str, Json]) -> None:
    """All of the reference's, and no others; a panel says what is normal, and what to do."""
    limited, named = set(), set()
    dashboard = dashboards["A/B monitor: health"]
    for panel in (panel for panel in dashboard["panels"] if panel["type"] != "row"):
        metrics = {target["query"]["metricName"] for target in panel["targets"]}
        named |= metrics
        if len(panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) > 1:
            assert "Normal: " in panel["description"], panel["title"]
            limited |= metrics
        assert len(panel["description"]) > 60, panel["title"]
    assert named == set(documented_health())
    assert limited == named - WITHOUT_RANGE


def test_the_number_of_connections_is_that_of_the_job() -> None:
    """The normal range of the time spent in requests is a part of them."""
    assert CONNECTIONS == sink.WRITERS


@pytest.mark.parametrize("file", [SHOP, None], ids=["example", "golden"])
def test_dashboards_are_sound(file: Path | None) -> None:
    """Ids are unique, panels lie within 24 columns and on no other, every name fits Grafana's rules."""
    settings = reader.load(file, {}) if file else reader.parse(golden_config())
    by_title = dashboards_of(settings)
    uids = [dashboard["uid"] for dashboard in by_title.values()]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,40}", uid) for uid in uids)
    for dashboard in by_title.values():
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids)
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            columns, rows = (range(place[at], place[at] + place[size]) for at, size in (("x", "w"), ("y", "h")))
            cells = set(product(columns, rows))
            assert not cells & taken
            assert max(x for x, _ in cells) < 24
            taken |= cells
            letters = [target["refId"] for target in panel.get("targets", [])]
            assert len(set(letters)) == len(letters)
        names = [variable["name"] for variable in dashboard["templating"]["list"]]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"\w+", name, re.ASCII) for name in names)


def test_links_lead_to_dashboards_with_the_values_that_they_name() -> None:
    """Those of the overview open an experiment at its tenant."""
    by_title = {one["uid"]: one for one in dashboards_of(reader.load(SHOP, {})).values()}
    links = [link for one in by_title.values() for panel in one["panels"] for link in panel.get("links", [])]
    links += [link for one in by_title.values() for link in one["links"] if link["type"] == "link"]
    assert len(links) > 50
    for link in links:
        uid, query = re.fullmatch(r"/d/([^?]+)\?(.+)", link["url"]).groups()  # type: ignore[union-attr]
        variables = {variable["name"]: variable for variable in by_title[uid]["templating"]["list"]}
        for part in query.split("&"):
            if match := re.fullmatch(r"var-(\w+)=(.+)", part):
                options = [option["value"] for option in variables[match[1]]["options"]]
                assert match[2] == "${dc}" or match[2] in options


def test_each_variation_has_its_own_colour_and_the_control_is_grey() -> None:
    """The same on the overview and on the experiment, and none is taken for one whose name it begins with."""
    by_title = dashboards_of(reader.load(SHOP, {}))
    for title, dashboard in by_title.items():
        for panel in dashboard["panels"]:
            colours = {}
            for override in panel.get("fieldConfig", {}).get("overrides", []):
                pattern = override["matcher"]["options"].strip("/")
                colours[pattern] = override["properties"][0]["value"]["fixedColor"]
            assert len(set(colours.values())) == len(colours), title
    ship = by_title["Experiment free_shipping"]["panels"][2]["fieldConfig"]["overrides"]
    assert ship[0]["properties"][0]["value"]["fixedColor"] == CONTROL
    assert re.search(ship[0]["matcher"]["options"].strip("/"), "ship_off · mobile")
    assert not re.search(ship[0]["matcher"]["options"].strip("/"), "ship_off-2")


def test_variables_of_tags_are_names_that_grafana_takes() -> None:
    """Also of tags that differ only in what such a name cannot have."""
    names = tag_variables(["pay-type", "pay_type", "tenant", "-"])
    assert len(set(names.values())) == 4
    assert all(re.fullmatch(r"tag_\w+", name, re.ASCII) for name in names.values())


def test_the_same_configuration_gives_the_same_bytes() -> None:
    """Whatever was read before."""
    arguments = (["a", "b"], "http://kairosdb:8080", "/dashboards")
    assert files(reader.load(SHOP, {}), *arguments) == files(reader.load(SHOP, {}), *arguments)
    assert list(files(reader.load(SHOP, {}), *arguments)) == list(files(reader.load(SHOP, {}), *arguments))


def test_the_provisioning_is_what_grafana_reads() -> None:
    """YAML with the data source that the dashboards name; a log-in, but not the password; `$` as Grafana wants it."""
    settings = reader.load(SHOP, {})
    texts = files(settings, ["dal"], "https://us%40er:secret@kairosdb.example.org:8443/k$1", "/a b/$dashboards")
    (source,) = yaml.safe_load(texts["provisioning/datasources/ab-monitor.yaml"])["datasources"]
    (provider,) = yaml.safe_load(texts["provisioning/dashboards/ab-monitor.yaml"])["providers"]
    assert not any("secret" in text for text in texts.values())
    assert (source["url"], source["basicAuthUser"]) == ("https://kairosdb.example.org:8443/k$$1", "us@er")
    assert source["secureJsonData"] == {"basicAuthPassword": "${MONITOR_GRAFANA_KAIROSDB_PASSWORD}"}
    assert provider["options"]["path"] == "/a b/$$dashboards"
    assert "basicAuth" not in yaml.safe_load(data_source("http://kairosdb:8080"))["datasources"][0]
    overview = json.loads(texts["dashboards/overview.json"])
    assert overview["panels"][0]["datasource"] == {"type": source["type"], "uid": source["uid"]}


def test_files_of_others_are_not_overwritten(tmp_path: Path) -> None:
    """Neither foreign ones nor own ones that were changed: they are all named, and nothing is written."""
    write(tmp_path, {"dashboards/a.json": "1", "dashboards/b.json": "1"})
    (tmp_path / "dashboards/b.json").write_text("changed")
    (tmp_path / "dashboards/c.json").write_text("foreign")
    before = {path: path.read_text() for path in tmp_path.rglob("*.json")}
    new = {"dashboards/a.json": "2", "dashboards/b.json": "2", "dashboards/c.json": "2", "dashboards/d.json": "2"}
    with pytest.raises(ForeignFiles, match=r"dashboards/b\.json\n  dashboards/c\.json$"):
        write(tmp_path, new)
    assert {path: path.read_text() for path in tmp_path.rglob("*.json")} == before
    assert write(tmp_path, new, force=True).written == list(new)
    assert {path: (tmp_path / path).read_text() for path in new} == new


def test_a_second_run_writes_what_differs_and_removes_what_is_gone(tmp_path: Path) -> None:
    """A file that was changed since stays, and is reported; the files of others are not touched."""
    write(tmp_path, {f"dashboards/{name}.json": "1" for name in "abcd"})
    (tmp_path / "dashboards/d.json").write_text("changed")
    (tmp_path / "dashboards/e.json").write_text("foreign")
    done = write(tmp_path, {"dashboards/a.json": "1", "dashboards/b.json": "2"})
    assert done.unchanged == ["dashboards/a.json"]
    assert done.written == ["dashboards/b.json"]
    assert done.removed == ["dashboards/c.json"]
    assert done.kept == ["dashboards/d.json"]
    assert sorted(path.name for path in (tmp_path / "dashboards").iterdir()) == ["a.json", "b.json", "d.json", "e.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"files": []}', '{"files": {"../x": "1", "dashboards/../../x": "1"}}'])
def test_a_damaged_list_of_own_files_removes_nothing(tmp_path: Path, text: str) -> None:
    """Then all that is in the way is foreign."""
    directory = tmp_path / "grafana"
    write(directory, {"dashboards/a.json": "1"})
    (tmp_path / "x").write_text("1")
    (directory / MANIFEST).write_text(text)
    with pytest.raises(ForeignFiles):
        write(directory, {"dashboards/a.json": "2"})
    write(directory, {})
    assert (tmp_path / "x").exists()
    assert (directory / "dashboards/a.json").exists()


def test_the_command_writes_and_says_what_to_do(tmp_path: Path) -> None:
    """Run twice it changes nothing; with a file in the way it says so and ends with status 2."""
    (tmp_path / "monitor.toml").write_text(to_toml(shop()))
    arguments = ["grafana", str(tmp_path / "g"), "--config", str(tmp_path / "monitor.toml")]
    arguments += ["--dc", "dal", "--dc", "phx"]
    first, second = (CliRunner().invoke(app, arguments) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert "5 written files" in first.output
    assert "5 unchanged files" in second.output
    assert "arpnetworking-kairosdb-datasource" in first.output
    (provider,) = yaml.safe_load((tmp_path / "g/provisioning/dashboards/ab-monitor.yaml").read_text())["providers"]
    assert Path(provider["options"]["path"]) == tmp_path / "g/dashboards"
    (tmp_path / "g/dashboards/health.json").write_text("{}")
    third = CliRunner().invoke(app, arguments)
    assert third.exit_code == 2
    assert "dashboards/health.json" in third.stderr
    assert "--force" in third.stderr
    assert CliRunner().invoke(app, [*arguments, "--force"]).exit_code == 0


def test_an_experiment_without_points_or_tags_has_a_dashboard() -> None:
    """Nothing of the configuration has to be there but the variations."""
    experiment = {"control": "a", "variations": {"a": 1}, "qualified_when": {}}
    bare = reader.parse({"dc": "d", "tenants": {"t": {"experiments": {"e": experiment}}}})
    dashboard = dashboards_of(bare)["Experiment e"]
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"tenant", "experiment", "dc"}
    assert not dashboards_of(reader.parse({"dc": "d", "tenants": {"t": {}}})).keys() & {"Experiment e"}
