/**
 * CacheHome: the folder of a person under which programs keep what can be made or fetched again.
 */
import { homedir, userInfo } from "node:os"
import * as path from "node:path"

/** The variables of an environment. */
export type Variables = Readonly<Record<string, string | undefined>>

/** The folder of the person; the root for one whom the system does not know, as containers have it. */
export const home = (): string => {
  try {
    return homedir() || userInfo().homedir
  } catch {
    return path.parse(process.cwd()).root
  }
}

/** `XDG_CACHE_HOME`, or `.cache` in the folder of the person; an empty variable is not set. */
export const cacheHome = (env: Variables = process.env): string =>
  env["XDG_CACHE_HOME"]?.trim() || path.join(home(), ".cache")
