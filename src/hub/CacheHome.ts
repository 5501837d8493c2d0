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

/**
 * `XDG_CACHE_HOME`, or `.cache` in the folder of the person where it is empty or relative: it would be another folder
 * wherever the program is started (https://specifications.freedesktop.org/basedir-spec/latest).
 */
export const cacheHome = (env: Variables = process.env): string => {
  const set = env["XDG_CACHE_HOME"]?.trim() ?? ""
  return path.isAbsolute(set) ? set : path.join(home(), ".cache")
}
