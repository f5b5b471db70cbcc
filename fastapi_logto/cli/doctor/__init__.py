"""The checks of `doctor`: the settings, the tenant, the sign-in of Swagger UI, and a token."""
