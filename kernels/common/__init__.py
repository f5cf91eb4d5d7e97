"""What Triton backends of several ops share. Importing this package imports no Triton."""
