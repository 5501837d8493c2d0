/**
 * Version: the version of this package, from its own `package.json`, which lies two folders up in `src` and in `dist`.
 */
import { readFileSync } from "node:fs"

const { version: own } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  readonly version: string
}

/** The version of Charter. */
export const version: string = own
