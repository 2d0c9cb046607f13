"""Log set-up: JSON or text, secrets redacted in one place."""
