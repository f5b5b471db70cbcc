"""The application: set `LOGTO_ENDPOINT` and `LOGTO_AUDIENCE`, and run `uvicorn example_app.main:app`."""

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from example_app import calls
from example_app.routes import router
from example_app.scheme import auth, revocations, settings

app = FastAPI(
    title="Example API",
    description="Routes protected with Logto access tokens. Each shows one way to require permissions.",
)
auth.install(app)
app.include_router(router)
if settings.machine_id:
    app.include_router(calls.build_router(settings))
if settings.webhook_signing_key:
    app.include_router(revocations.webhooks(signing_key=settings.webhook_signing_key))
# Tokens are sent in a header and never in a cookie, so any origin is allowed: a page can only send its own token.
# JavaScript in a browser can read why a request was rejected only if WWW-Authenticate is exposed.
app.add_middleware(
    CORSMiddleware,
    allow_origins=settings.cors_origins,
    allow_methods=["GET", "PATCH"],
    allow_headers=["Authorization", "Content-Type"],
    expose_headers=["WWW-Authenticate"],
)
