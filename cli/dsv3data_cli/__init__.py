"""The command line: parse, call, print. Work lives in the packages below."""
