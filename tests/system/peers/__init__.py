"""Other mail servers, to exchange mail with."""
