"""What an application says about itself: its routes, OpenAPI document and metadata pages."""
