"""Grafana's dashboards, as code: `python -m saga_project.dashboards [DIRECTORY]` writes their JSON.

Four, each for one question: how is it going (overview), how does one saga fare (saga), do workers keep up
(queue), does a provider work (provider). They are made with Grafana's own builders, which only developers
need: what is deployed is the JSON, and a test holds it equal to this.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models

HOME = pathlib.Path(__file__).resolve().parent.parent / "deploy" / "observability" / "grafana"

WINDOW = "$__rate_interval"
"""Grafana's name for a window that always holds a few scrapes."""

SECONDS, PER_SECOND, SHARE, COUNT = "s", "ops", "percentunit", "short"

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """One panel: what it is called, what it says to a reader, and the queries behind it."""

    title: str
    says: str
    queries: Sequence[tuple[str, str]]
    """Each an expression, and how its lines are named."""

    unit: str = COUNT
    red_above: float | None = None
    """Where a person should look; it is what the alert of the same figure goes by."""

    single: bool = False
    """Whether it is one number and no curve."""

    width: int = 8


def _once(metric: str, matching: str = "") -> str:
    """A gauge, however many web processes tell it."""
    return f'max without (instance, pod) ({metric}{{job=~"$job"{matching}}})'


def _rate(metric: str, by: str, matching: str = "") -> str:
    return f"sum by ({by}) (max without (instance, pod) ({_rate_of(metric, matching)}))"


def _rate_of(metric: str, matching: str) -> str:
    return f'rate({metric}{{job=~"$job"{matching}}}[{WINDOW}])'


def _quantiles(
    metric: str, by: str, matching: str = "", *, of: Sequence[float] = (0.5, 0.95, 0.99)
) -> list[tuple[str, str]]:
    names = [name for name in by.split(", ") if name]
    lines = " ".join(f"{{{{{name}}}}}" for name in names)
    buckets = _rate(f"{metric}_bucket", ", ".join([*names, "le"]), matching)
    return [(f"histogram_quantile({one}, {buckets})", f"{lines} p{one * 100:g}".strip()) for one in of]


SAGA, QUEUE, STEP = ', saga=~"$saga"', ', queue=~"$queue"', ', step=~"$step"'

OVERVIEW = {
    "Now": [
        Chart(
            title="Need a person", single=True, red_above=1, width=4,
            says="Sagas that do not go on by themselves. Runbook: SagaNeedsAttention.",
            queries=[(_once("sagas_live", ', state="needs_attention"'), "")],
        ),
        Chart(
            title="Callbacks for a person", single=True, red_above=1, width=4,
            says="What providers told that no saga can settle. Runbook: SagaCallbacksWaiting.",
            queries=[(_once("sagas_callbacks_attention"), "")],
        ),
        Chart(
            title="Steps nobody knows of", single=True, red_above=1, width=4,
            says="Steps that may have happened or not. Runbook: SagaStepUnknown.",
            queries=[(f"sum({_once('sagas_unknown_open')}) or vector(0)", "")],
        ),
        Chart(
            title="Providers out", single=True, red_above=1, width=4,
            says="Open circuits. Runbook: SagaCircuitOpen.",
            queries=[(f"sum({_once('sagas_circuit_open')})", "")],
        ),
        Chart(
            title="Last sweep", single=True, red_above=30, unit=SECONDS, width=4,
            says="How long ago somebody swept. Runbook: SagaSweepMissing.",
            queries=[(_once("sagas_sweep_age_seconds"), "")],
        ),
        Chart(
            title="Live", single=True, width=4, says="Sagas under way.",
            queries=[(f"sum({_once('sagas_live')})", "")],
        ),
    ],
    "How orders fare": [
        Chart(
            title="Begin", unit=PER_SECOND, says="Sagas that begin, per second.",
            queries=[(_rate("sagas_started_total", "saga"), "{{saga}}")],
        ),
        Chart(
            title="End", unit=PER_SECOND, says="Sagas that end, per second, and how.",
            queries=[(_rate("sagas_ended_total", "state"), "{{state}}")],
        ),
        Chart(
            title="Undone of those that end", unit=SHARE, red_above=0.5,
            says="The share that was compensated instead of completed. Runbook: SagasTurnBack.",
            queries=[(
                _rate("sagas_ended_total", "saga", ', state="compensated"')
                + " / " + _rate("sagas_ended_total", "saga"), "{{saga}}",
            )],
        ),
        Chart(
            title="From begin to end", unit=SECONDS, says="How long those took that ended, by quantile.",
            queries=_quantiles("sagas_duration_seconds", "saga", of=(0.5, 0.95)),
        ),
        Chart(
            title="Live by state", says="Sagas under way.",
            queries=[(_once("sagas_live"), "{{state}}")],
        ),
        Chart(
            title="Why a person is needed", says="Open, by saga and reason; `backward` is a failed undo.",
            queries=[(_once("sagas_attention_open"), "{{saga}} {{reason}} {{direction}}")],
        ),
    ],
    "What carries them": [
        Chart(
            title="Queues: no sign of a worker", unit=SECONDS, red_above=30,
            says="How long nobody has listened. Runbook: SagaQueueSilent.",
            queries=[(_once("sagas_queue_silent_seconds"), "{{queue}}")],
        ),
        Chart(
            title="Steps wait for a worker, p95", unit=SECONDS, says="From the message to the claim.",
            queries=_quantiles("sagas_step_wait_seconds", "queue", of=(0.95,)),
        ),
        Chart(
            title="Sweep lag", unit=SECONDS, red_above=30,
            says="For how long the most overdue saga has been due. Runbook: SagaSweepLags.",
            queries=[(_once("sagas_sweep_lag_seconds"), "lag")],
        ),
        Chart(
            title="Webhooks", says="Events without webhooks, and webhooks to send. Runbook: WebhooksWait.",
            queries=[(_once("webhooks_backlog"), "{{stage}}")],
        ),
        Chart(
            title="Followed orders", says="By streams and long polls, each once for each web process.",
            queries=[(_once("followers"), "followers")],
        ),
        Chart(
            title="Age of the counters", unit=SECONDS, red_above=120,
            says="How old all counters here are. Runbook: SagaMetricsOld.",
            queries=[(_once("sagas_metrics_age_seconds"), "age")],
        ),
    ],
}  # fmt: skip

ONE_SAGA = {
    "The saga": [
        Chart(
            title="Begin, by version", unit=PER_SECOND, says="An old version runs out, a new one takes over.",
            queries=[(_rate("sagas_started_total", "saga, version", SAGA), "{{saga}} v{{version}}")],
        ),
        Chart(
            title="End, by state", unit=PER_SECOND, says="Completed, compensated, or put aside.",
            queries=[(_rate("sagas_ended_total", "saga, state", SAGA), "{{saga}} {{state}}")],
        ),
        Chart(
            title="From begin to end", unit=SECONDS, says="Waits for people and providers are in it.",
            queries=_quantiles("sagas_duration_seconds", "saga, state", SAGA, of=(0.5, 0.95)),
        ),
    ],
    "Its steps": [
        Chart(
            title="Steps done", unit=PER_SECOND, says="Outcomes that were success, forwards.", width=12,
            queries=[(
                _rate("sagas_steps_total", "step", SAGA + ', direction="forward", outcome="done"'),
                "{{step}}",
            )],
        ),
        Chart(
            title="Steps that failed or are unknown", unit=PER_SECOND, width=12,
            says="Where orders are turned back, and where nobody knows yet.",
            queries=[(
                _rate("sagas_steps_total", "step, outcome", SAGA + ', outcome=~"failed|unknown"'),
                "{{step}} {{outcome}}",
            )],
        ),
        Chart(
            title="How long a step takes, p95", unit=SECONDS, width=12,
            says="From its first attempt until it is done, retries and waits included.",
            queries=_quantiles(
                "sagas_step_duration_seconds", "step", SAGA + ', direction="forward"', of=(0.95,)
            ),
        ),
        Chart(
            title="Attempts for each outcome", width=12, red_above=2,
            says="1 is a step that goes well at once; more are retries.",
            queries=[(
                _rate("sagas_attempts_total", "step", SAGA + ', direction="forward"') + " / "
                + _rate("sagas_steps_total", "step", SAGA + ', direction="forward"'), "{{step}}",
            )],
        ),
        Chart(
            title="Undone", unit=PER_SECOND, width=12, says="Undos that came to an outcome.",
            queries=[(
                _rate("sagas_steps_total", "step, outcome", SAGA + ', direction="backward"'),
                "{{step}} {{outcome}}",
            )],
        ),
        Chart(
            title="Unknown for", unit=SECONDS, red_above=43200, width=12,
            says="Of the first step of which nobody knows whether it happened. Runbook: SagaStepUnknown.",
            queries=[(_once("sagas_unknown_oldest_seconds", SAGA), "{{step}}")],
        ),
    ],
    "What stands, and what the engine takes": [
        Chart(
            title="Needs a person for", unit=SECONDS, red_above=600,
            says="Of the first one. Runbook: SagaNeedsAttention, SagaUndoFailing.",
            queries=[(_once("sagas_attention_oldest_seconds", SAGA), "{{saga}} {{reason}} {{direction}}")],
        ),
        Chart(
            title="A transition", unit=SECONDS, says="What engine and database take between two steps.",
            queries=_quantiles("sagas_transition_seconds", "saga", SAGA, of=(0.5, 0.99)),
        ),
        Chart(
            title="Void messages and late callbacks", unit=PER_SECOND,
            says="A few are harmless. `lost-lease`: a worker came back too late.",
            queries=[
                (_rate("sagas_voided_messages_total", "reason", SAGA), "void: {{reason}}"),
                (_rate("sagas_late_callbacks_total", "step", SAGA), "late callback: {{step}}"),
            ],
        ),
        Chart(
            title="Children live", says="Children of this name under way.",
            queries=[(_once("sagas_live_children", SAGA), "{{saga}} {{state}}")],
        ),
        Chart(
            title="Children that wait", says="All their steps are done; their parent's outcome is not known.",
            queries=[(_once("sagas_children_waiting", SAGA), "{{saga}}")],
        ),
        Chart(
            title="Waits for its children", says="Sagas that are at such a step.",
            queries=[(_once("sagas_parents_waiting", SAGA), "{{saga}} {{step}}")],
        ),
    ],
}  # fmt: skip

ONE_QUEUE = {
    "Workers": [
        Chart(
            title="No sign of a worker", unit=SECONDS, red_above=30,
            says="Above 30 s nobody listens. Runbook: SagaQueueSilent.",
            queries=[(_once("sagas_queue_silent_seconds", QUEUE), "{{queue}}")],
        ),
        Chart(
            title="Oldest probe without an answer", unit=SECONDS, red_above=60,
            says="How long the backlog is, in time. Runbook: SagaQueueLags.",
            queries=[(_once("sagas_queue_lag_seconds", QUEUE), "{{queue}}")],
        ),
        Chart(
            title="In line",
            says="Sagas that are due and wait until workers take them; how many may. Runbook: SagaLineFull.",
            queries=[
                (_once("sagas_in_line", QUEUE), "{{queue}}"),
                (_once("sagas_longest_line", QUEUE), "no more are taken"),
            ],
        ),
        Chart(
            title="A step waits for a worker", unit=SECONDS, width=12,
            says="From its message to its claim. It rises where workers are too few.",
            queries=_quantiles("sagas_step_wait_seconds", "queue", QUEUE),
        ),
        Chart(
            title="Messages claimed", unit=PER_SECOND, width=12,
            says="Steps that came by a message; those that a worker went on with at once are not in it.",
            queries=[(_rate("sagas_step_wait_seconds_count", "queue", QUEUE), "{{queue}}")],
        ),
        Chart(
            title="Sent again", unit=PER_SECOND, width=12,
            says="The message before was lost, or its worker was.",
            queries=[(_rate("sagas_redispatches_total", "queue", QUEUE), "{{queue}}")],
        ),
        Chart(
            title="Overdue sagas", width=12,
            says="Their time has come and no sweep took them, on whatever queue.",
            queries=[(_once("sagas_overdue"), "overdue")],
        ),
    ],
}  # fmt: skip

ONE_PROVIDER = {
    "The provider": [
        Chart(
            title="Out", red_above=1, width=12,
            says="1: its circuit is open, orders wait without spending attempts. Runbook: SagaCircuitOpen.",
            queries=[(_once("sagas_circuit_open", QUEUE), "{{queue}}")],
        ),
        Chart(
            title="Needs a person", red_above=1, width=12,
            says="1: nothing goes on there until something is mended. Runbook: SagaCircuitNeedsPerson.",
            queries=[(_once("sagas_circuit_needs_person", QUEUE), "{{queue}}")],
        ),
    ],
    "The steps that call it (choose them above)": [
        Chart(
            title="Calls", unit=PER_SECOND, says="Attempts, forwards and backwards.",
            queries=[(_rate("sagas_attempts_total", "step, direction", STEP), "{{step}} {{direction}}")],
        ),
        Chart(
            title="Failed", unit=SHARE, says="Of the outcomes forwards.",
            queries=[(
                _rate("sagas_steps_total", "step", STEP + ', direction="forward", outcome="failed"') + " / "
                + _rate("sagas_steps_total", "step", STEP + ', direction="forward"'), "{{step}}",
            )],
        ),
        Chart(
            title="Takes", unit=SECONDS, says="Until a step is done: retries and waits for it included.",
            queries=_quantiles(
                "sagas_step_duration_seconds", "step", STEP + ', direction="forward"', of=(0.5, 0.95)
            ),
        ),
        Chart(
            title="Unknown", says="Answers that were lost. Runbook: SagaStepUnknown.",
            queries=[(_once("sagas_unknown_open", STEP), "{{step}}")],
        ),
        Chart(
            title="Undos that failed", unit=PER_SECOND, says="Runbook: SagaUndoFailing.",
            queries=[(
                _rate("sagas_steps_total", "step", STEP + ', direction="backward", outcome="failed"'),
                "{{step}}",
            )],
        ),
        Chart(
            title="Late callbacks", unit=PER_SECOND, says="They lost a race; what they tell of is undone.",
            queries=[(_rate("sagas_late_callbacks_total", "step", STEP), "{{step}}")],
        ),
    ],
}  # fmt: skip

CHOICES = {
    "saga": "label_values(sagas_started_total, saga)",
    "queue": "label_values(sagas_queue_silent_seconds, queue)",
    "provider": "label_values(sagas_circuit_open, queue)",
    "step": "label_values(sagas_attempts_total, step)",
}

DASHBOARDS: dict[str, tuple[str, dict[str, list[Chart]], dict[str, str]]] = {
    "overview": ("Sagas: overview", OVERVIEW, {}),
    "saga": ("Sagas: a saga", ONE_SAGA, {"saga": CHOICES["saga"]}),
    "queue": ("Sagas: a queue", ONE_QUEUE, {"queue": CHOICES["queue"]}),
    "provider": ("Sagas: a provider", ONE_PROVIDER, {"queue": CHOICES["provider"], "step": CHOICES["step"]}),
}
"""By the name of the file: the title, the rows of charts, and what its reader may choose."""


def expressions(name: str) -> list[str]:
    """All that a dashboard asks Prometheus."""
    _, rows, _ = DASHBOARDS[name]
    return [query for charts in rows.values() for chart in charts for query, _ in chart.queries]


def render(name: str) -> str:
    """A dashboard as the JSON that Grafana imports or is provisioned with."""
    title, rows, choices = DASHBOARDS[name]
    built = (
        dashboard.Dashboard(title)
        .uid(f"sagas-{name}")
        .tags(["sagas"])
        .timezone("browser")
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(_others())
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable, query in {"job": "label_values(sagas_live, job)", **choices}.items():
        built = built.with_variable(
            dashboard.QueryVariable(variable)
            .datasource(SOURCE)
            .query(query)
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    number = 0
    for heading, charts in rows.items():
        number += 1
        built = built.with_row(dashboard.Row(heading).id(number))
        for chart in charts:
            number += 1
            built = built.with_panel(_panel(chart).id(number))
    return str(JSONEncoder(sort_keys=True, indent=2).encode(built.build())) + "\n"


def _others() -> dashboard.DashboardLink:
    """The way to the other three, with what was chosen here."""
    link = dashboard.DashboardLink("Sagas").type(models.DashboardLinkType.DASHBOARDS).tags(["sagas"])
    return link.as_dropdown(True).include_vars(True).keep_time(True)


def _panel(chart: Chart) -> stat.Panel | timeseries.Panel:
    steps = [models.Threshold(value=None, color="green")]
    if chart.red_above is not None:
        steps.append(models.Threshold(value=chart.red_above, color="red"))
    thresholds = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    panel: stat.Panel | timeseries.Panel
    if chart.single:
        panel = (
            stat.Panel()
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .color_mode(kinds.BigValueColorMode.VALUE)
            .height(4)
        )
    else:
        panel = (
            timeseries.Panel()
            .legend(common.VizLegendOptions().display_mode(kinds.LegendDisplayMode.LIST).show_legend(True))
            .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI))
            .min(0)
            .fill_opacity(5)
            .height(8)
        )
        if chart.red_above is not None:
            panel = panel.thresholds_style(
                common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED)
            )
    panel = (
        panel.title(chart.title)
        .description(chart.says)
        .datasource(SOURCE)
        .unit(chart.unit)
        .span(chart.width)
        .thresholds(thresholds)
    )
    for place, (query, legend) in enumerate(chart.queries):
        panel = panel.with_target(
            prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + place))
        )
    return panel


def main(arguments: list[str]) -> None:
    """Write every dashboard into the directory that is named, or into the repository's."""
    home = pathlib.Path(arguments[0]) if arguments else HOME
    home.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        (home / f"{name}.json").write_text(render(name))


if __name__ == "__main__":
    main(sys.argv[1:])
