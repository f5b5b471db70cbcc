"""An OpenTelemetry SDK in memory that records only this package, without other effects on the process."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, HistogramDataPoint, InMemoryMetricReader, Sum
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from typing_extensions import override

_PACKAGE: Final = "fastapi_logto"
_DELTA: Final = AggregationTemporality.DELTA


class _OnlyOurMeter(metrics.NoOpMeterProvider):
    """A no-op provider, except for this package. FastAPI ignores no-op providers, so it records nothing with it."""

    def __init__(self, provider: MeterProvider) -> None:
        self._provider = provider

    @override
    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> metrics.Meter:
        if name == _PACKAGE:
            return self._provider.get_meter(name, *args, **kwargs)
        return super().get_meter(name, *args, **kwargs)


class _OnlyOurTracer(trace.NoOpTracerProvider):
    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    @override
    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        if _PACKAGE in (*args, *kwargs.values()):
            return self._provider.get_tracer(*args, **kwargs)
        return super().get_tracer(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Point:
    """The record of a set of attributes: the sum of a counter, or the number of values in a histogram."""

    value: float
    attributes: dict[str, Any]
    bounds: tuple[float, ...] = ()
    total: float = 0


@dataclass(frozen=True, slots=True)
class Recording:
    """The records since the last read."""

    reader: InMemoryMetricReader = field(
        default_factory=lambda: InMemoryMetricReader(preferred_temporality={Counter: _DELTA, Histogram: _DELTA})
    )
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def read(self) -> dict[str, list[Point]]:
        """Return the points by the name of their metric, in the order of their attributes.

        The SDK lists attributes in the order in which the tests of this process used them first.
        """
        data = self.reader.get_metrics_data()
        found: dict[str, list[Point]] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points = map(_read_point, metric.data.data_points)
                    found[metric.name] = sorted(points, key=lambda point: sorted(point.attributes.items()))
        return found

    def describe(self) -> dict[str, tuple[str, str, set[str]]]:
        """Return the kind, the unit and the attributes of each metric."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: (
                "counter" if isinstance(metric.data, Sum) else "histogram",
                metric.unit or "",
                {name for point in metric.data.data_points for name in point.attributes or ()},
            )
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def read_spans(self) -> list[ReadableSpan]:
        """Return the spans that have ended, in this order."""
        spans = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return spans


def _read_point(point: Any) -> Point:
    attributes = dict(point.attributes)
    if isinstance(point, HistogramDataPoint):
        return Point(point.count, attributes, tuple(point.explicit_bounds), point.sum)
    return Point(point.value, attributes)


@cache
def _set_providers() -> Recording:
    # A process can set them only once.
    recording = Recording()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(recording.exporter))
    metrics.set_meter_provider(_OnlyOurMeter(MeterProvider([recording.reader])))
    trace.set_tracer_provider(_OnlyOurTracer(tracers))
    return recording


def start_recording() -> Recording:
    """Return a recording that is empty."""
    recording = _set_providers()
    recording.read()
    recording.read_spans()
    return recording
