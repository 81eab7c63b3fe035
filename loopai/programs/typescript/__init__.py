"""Run TypeScript programs with Deno, in processes without permissions. `TypeScriptEngine` is in `engine`."""
