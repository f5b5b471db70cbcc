"""The changes that the buttons of the index page make."""

from fastapi_logto.testing.issuer.administration import Administration
from fastapi_logto.testing.issuer.forms import Parameters
from fastapi_logto.testing.issuer.refusals import RefusedError


def apply_change(administration: Administration, form: Parameters) -> None:
    """Make the change that a form requests, or refuse it."""
    action, member = form.require("action"), form.require("member")
    try:
        match action:
            case "suspend":
                administration.suspend(member)
            case "unsuspend":
                administration.unsuspend(member)
            case "delete":
                administration.delete_user(member)
            case "remove":
                administration.remove_from_organization(member, organization_id=form.require("organization"))
            case _:
                raise RefusedError("invalid_request", "the form does not come from this page")
    except ValueError as error:
        # For example, another tab has deleted the user.
        raise RefusedError("invalid_request", str(error)) from None
