"""IPython configuration of the kernels that execute the book."""

c = get_config()  # noqa: F821  (IPython provides it)
# Twice the pixels: figures stay sharp on phones and when a page is enlarged.
c.InlineBackend.figure_formats = {"retina"}
# A kernel of the build listens on this computer only, and warns each time that it is not encrypted.
c.IPKernelApp.log_level = "ERROR"
