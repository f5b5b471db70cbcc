"""An API whose metrics Prometheus collects, and whose log lines are JSON. The settings come from the environment."""

import json
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

from fastapi_logto import LogtoAuth, TokenClaims
from fastapi_logto.revocation import Revocations

# --8<-- [start:metrics]
metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))


@asynccontextmanager
async def serve_metrics(_app: FastAPI) -> AsyncGenerator[None]:
    """Serve the metrics on a separate port, which is for Prometheus and not for callers of the API."""
    server, thread = start_http_server(int(os.environ.get("METRICS_PORT", "9464")))
    yield
    server.shutdown()
    server.server_close()
    thread.join()


# --8<-- [end:metrics]
# --8<-- [start:log]
class JsonFormatter(logging.Formatter):
    """One JSON object for each record, with the fields that fastapi_logto adds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {"time": self.formatTime(record), "level": record.levelname, "message": record.getMessage()}
        return json.dumps(line | {name: value for name, value in vars(record).items() if name.startswith("logto_")})


# --8<-- [end:log]
handler = logging.StreamHandler()
handler.setFormatter(JsonFormatter())
logging.basicConfig(handlers=[handler])
logging.getLogger("fastapi_logto").setLevel(logging.INFO)

revocations = Revocations()
auth = LogtoAuth(revocations=revocations)
app = FastAPI(lifespan=serve_metrics)
auth.install(app)

Reader = Annotated[TokenClaims, Depends(auth.require_scopes("read:user"))]


@app.get("/user/info")
async def user_info(claims: Reader) -> dict[str, str]:
    return {"user_id": claims.user_id}
