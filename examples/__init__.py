"""One short program per idea; see the README beside this file."""
