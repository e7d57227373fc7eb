"""Where words leave: the websocket server."""
