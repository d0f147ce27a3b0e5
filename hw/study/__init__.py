"""The area study: what the choices of the datapath cost (``python -m hw.study``)."""
