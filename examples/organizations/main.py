"""Documents of organizations: each request reads or changes the documents of one organization."""

from typing import Annotated

from fastapi import Body, Depends, FastAPI, HTTPException

from fastapi_logto import auth

app = FastAPI()
auth.install(app)

# Both require a token for the organization in the path, so a handler may use `organization_id` as the key of its data.
member = Depends(auth.require_organization("read:document"))
admin = Depends(auth.require_organization("manage:document"))

# A database would have a column for the organization, and every query would use it.
DOCUMENTS: dict[str, dict[str, str]] = {"acme": {"plan": "Plan of Acme"}, "globex": {"budget": "Budget of Globex"}}


@app.get("/organizations/{organization_id}/documents", dependencies=[member])
async def list_documents(organization_id: str) -> dict[str, str]:
    return DOCUMENTS.get(organization_id, {})


@app.put("/organizations/{organization_id}/documents/{name}", dependencies=[admin], status_code=204)
async def write_document(organization_id: str, name: str, text: Annotated[str, Body()]) -> None:
    DOCUMENTS.setdefault(organization_id, {})[name] = text


@app.delete("/organizations/{organization_id}/documents/{name}", dependencies=[admin], status_code=204)
async def delete_document(organization_id: str, name: str) -> None:
    # Search in this organization only: a document of another organization is a 404.
    if DOCUMENTS.get(organization_id, {}).pop(name, None) is None:
        raise HTTPException(404, "the organization has no such document")
