"""Codecs for what is stored: compression, and encryption (an extra: ``floxide-amqp[encryption]``)."""
