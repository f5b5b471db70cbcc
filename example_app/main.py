"""The application. Run it with `uvicorn example_app.main:app`, and `LOGTO_ENDPOINT` and `LOGTO_AUDIENCE` set."""

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from example_app import calls
from example_app.routes import router
from example_app.settings import ExampleSettings
from fastapi_logto import auth

settings = ExampleSettings()

app = FastAPI(
    title="Example API",
    description="Routes protected by access tokens of Logto, each showing one way to ask for permission.",
)
auth.install(app)
app.include_router(router)
if settings.machine_id:
    app.include_router(calls.build_router(settings))
# Tokens come in a header and never in a cookie, so any origin may call: it can only use a token that it has.
# A browser's code can read why it was refused only where WWW-Authenticate is exposed.
app.add_middleware(
    CORSMiddleware,
    allow_origins=settings.cors_origins,
    allow_methods=["GET", "PATCH"],
    allow_headers=["Authorization", "Content-Type"],
    expose_headers=["WWW-Authenticate"],
)
