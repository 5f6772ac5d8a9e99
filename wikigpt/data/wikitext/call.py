"""One call of a template: {{name|positional|named=value}}."""


class Template:
    """One call: its name (lower case) and parameters, without the white space around them."""

    def __init__(self, name: str, content: str) -> None:
        self.name = name
        self.positional: list[str] = []
        self.named: dict[str, str] = {}
        for part in content.split("|") if content else ():
            key, equals, value = part.partition("=")
            if not equals:
                self.positional.append(part.strip())
                continue
            key = key.strip()
            if key.isdecimal() and 0 < int(key) < 100:
                self.positional += [""] * (int(key) - len(self.positional))
                self.positional[int(key) - 1] = value.strip()
            else:
                self.named[key.lower()] = value.strip()

    def __getitem__(self, key: str | int) -> str:
        """A parameter, counted from 1, or "" where it was not given."""
        if isinstance(key, str):
            return self.named.get(key, "")
        return self.positional[key - 1] if key <= len(self.positional) else ""

    def first(self, *keys: str | int) -> str:
        """The first of several parameters that is not empty."""
        return next((value for key in keys if (value := self[key])), "")

    def on(self, key: str) -> bool:
        """Whether a switch such as lc=y is set."""
        return self[key].lower() in ("y", "yes", "on", "true", "1")
