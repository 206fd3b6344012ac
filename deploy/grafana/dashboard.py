"""Write the dashboard's JSON for Grafana: `python -m deploy.grafana.dashboard`.

It has the classic form (schema v1), which Grafana provisions from files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.panel import JOB, Panel
from deploy.grafana.panels import ROWS

FILE = Path(__file__).parent / "dashboards" / "overview.json"
SOURCE = options.DataSourceRef(type_val="prometheus", uid="${datasource}")
BUDGETS = f"query_result(sum by (budget) (increase(offramp_requests_total{{{JOB}}}[$__range])) > 0)"
B = TypeVar("B", stat.Panel, timeseries.Panel)


def overview() -> dashboard.Dashboard:
    """Build the dashboard: numbers on top, causes below."""
    built = (
        dashboard.Dashboard("Offramp")
        .uid("offramp-overview")
        .description("Exits of requests, their flops, and latency.")
        .tags(["offramp"])
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time("now-30m", "now")
        .refresh("10s")
        .timezone("browser")
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(_variable("job", "Service", "label_values(offramp_model_info, job)"))
        .with_variable(_label("model", "Model"))
        .with_variable(_label("version", "Version"))
        .with_variable(_variable("budget", "Budget", BUDGETS).regex('/budget="([^"]+)"/'))
    )
    for row in ROWS:
        built.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            is_number = panel.kind in ("number", "state")
            built.with_panel(_number(panel) if is_number else _lines(panel))
    return built


def _variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    everything = model.VariableOption(selected=True, text="All", value="$__all")
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .definition(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .current(everything)
    )


def _label(name: str, label: str) -> dashboard.QueryVariable:
    """Return the variable of a label that only a server with several models has."""
    query = f"label_values(offramp_requests_total{{{JOB}}}, {name})"
    return _variable(name, label, query).all_value(".*")


def _number(panel: Panel) -> stat.Panel:
    modes = options.BigValueGraphMode
    mode = modes.AREA if panel.kind == "number" else modes.NONE
    built = stat.Panel().graph_mode(mode).height(4).no_value("-")
    built.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return _common(built, panel)


def _lines(panel: Panel) -> timeseries.Panel:
    built = _plain_lines(stacked=panel.kind == "stacked")
    if panel.highest is not None:
        built.max(panel.highest)
    if panel.limits:
        mode = options.GraphThresholdsStyleMode.DASHED
        built.thresholds_style(common.GraphThresholdsStyleConfig().mode(mode))
    if panel.repeat:
        built.repeat("budget").repeat_direction("h").max_per_row(3)
    return _common(built, panel)


def _plain_lines(*, stacked: bool) -> timeseries.Panel:
    """Build lines, where those that are expected or limits are dashed."""
    mode = options.StackingMode.NORMAL if stacked else options.StackingMode.NONE
    dashed = [
        model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}),
        model.DynamicConfigValue("custom.fillOpacity", 0),
    ]
    return (
        timeseries.Panel()
        .height(8)
        .min(0)
        .line_width(1)
        .fill_opacity(60 if stacked else 0)
        .show_points(options.VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(mode).group("A"))
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .override_by_regexp("expected|limit", dashed)
    )


def _common(built: B, panel: Panel) -> B:
    built.title(panel.title).description(panel.advice).unit(panel.unit).span(panel.width)
    built.datasource(SOURCE)
    if panel.limits:
        yellow, red = panel.limits
        steps = [(None, "green"), (yellow, "yellow"), (red, "red")]
        built.thresholds(
            dashboard.ThresholdsConfig()
            .mode(model.ThresholdsMode.ABSOLUTE)
            .steps([model.Threshold(value=value, color=color) for value, color in steps])
        )
    for name, (expression, legend) in zip("ABCDEF", panel.queries, strict=False):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(name)
        # A range has series that ended too, such as a state of before.
        query = query.instant() if panel.kind == "state" else query.range()
        built.with_target(query.datasource(SOURCE))
    return built


def text() -> str:
    """Return the text of the file that Grafana reads."""
    built = overview().build()
    for number, panel in enumerate(built.panels or (), 1):
        panel.id_val = number
    return JSONEncoder(sort_keys=True, indent=2).encode(built) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
