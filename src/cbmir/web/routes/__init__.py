"""What the API answers, one file each area; every `router` is named in app.py."""
