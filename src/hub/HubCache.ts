/**
 * HubCache: the folder in which everything that was fetched from the Hugging Face hub is kept.
 *
 * Its layout is that of Python's huggingface_hub, so what either has fetched is there for the other: a repository's
 * folder `models--owner--name` has `refs/<branch>` with a commit in it, `blobs/<hash>` with the files, and
 * `snapshots/<commit>/<path>` with links to them (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
 */
import { Redacted } from "effect"
import { randomUUID } from "node:crypto"
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import * as Folder from "../Folder.ts"
import * as CacheHome from "./CacheHome.ts"

/** A repository of the hub. */
export interface Repository {
  readonly type: "model" | "dataset"
  /** `owner/name`, or the `name` alone of the oldest. */
  readonly name: string
}

/** What the environment says of the hub, under the names that Python's library knows. */
export interface Environment {
  readonly cacheDir: string
  readonly endpoint: string
  readonly offline: boolean
  readonly token: Redacted.Redacted | undefined
}

/**
 * Reads `HF_HUB_CACHE`, `HF_HOME`, `HF_ENDPOINT`, `HF_HUB_OFFLINE` and `HF_TOKEN`; an empty one is not set. Without a
 * token, it is the one that `hf auth login` has put into a file, `HF_TOKEN_PATH` or `token` in the home.
 */
export const environment = (env: CacheHome.Variables = process.env): Environment => {
  const read = (key: string) => env[key]?.trim() || undefined
  const home = read("HF_HOME") ?? path.join(CacheHome.cacheHome(env), "huggingface")
  const token = read("HF_TOKEN") ?? saved(expanded(read("HF_TOKEN_PATH") ?? path.join(home, "token"), env))
  return {
    cacheDir: expanded(read("HF_HUB_CACHE") ?? read("HUGGINGFACE_HUB_CACHE") ?? path.join(home, "hub"), env),
    endpoint: (read("HF_ENDPOINT") ?? "https://huggingface.co").replace(/\/+$/, ""),
    offline: /^(1|on|yes|true)$/i.test(read("HF_HUB_OFFLINE") ?? ""),
    token: token === undefined ? undefined : Redacted.make(token)
  }
}

/** What a small file says, such as a token; nothing where it cannot be read. */
const saved = (file: string): string | undefined => {
  try {
    return readFileSync(file, "utf8").trim() || undefined
  } catch {
    return undefined
  }
}

/** A folder as a shell would read it: files that set variables, such as `.env`, know no shell. */
const expanded = (folder: string, env: CacheHome.Variables): string =>
  folder
    .replace(/^~(?=$|[/\\])/, () => CacheHome.home())
    .replace(/\$(?:(\w+)|\{(\w+)\})/g, (all, bare, braced) => env[bare ?? braced] ?? all)

/** The folder of a repository in the cache. */
export const folder = (cacheDir: string, { name, type }: Repository): string =>
  path.join(cacheDir, `${type}s--${name.replaceAll("/", "--")}`)

/** Whether a revision is a commit, which never changes, and not a branch or a tag. */
export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision)

/** The commit that a branch or tag of a repository's folder had when the hub was last asked; none where it was not. */
export const commitOf = (folder: string, revision: string): string | undefined => {
  const commit = saved(path.join(folder, "refs", revision))
  return commit !== undefined && isCommit(commit) ? commit : undefined
}

/** Notes the commit of a branch or tag; throws what the system says. Several processes may do so at once. */
export const noteUnsafe = (folder: string, revision: string, commit: string): void => {
  // A cache that several people share may be one to read alone, and then what stands there is all there is to say.
  if (commitOf(folder, revision) === commit) return
  const ref = path.join(folder, "refs", revision)
  Folder.makeUnsafe(path.dirname(ref))
  const temporary = `${ref}.${randomUUID()}.tmp`
  try {
    writeFileSync(temporary, commit)
    renameSync(temporary, ref)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}

/** Whether a name from outside stays in the folder that it is joined to. */
export const staysInside = (name: string): boolean => name !== "" && !/(^|[/\\])\.\.?([/\\]|$)|^[/\\]|:|\0/.test(name)

/** Whether a text can be the name of a repository. */
export const isName = (name: string): boolean =>
  /^[\w.-]+(\/[\w.-]+)?$/.test(name) && staysInside(name) && !name.includes("--")

/** The model and the commit that a folder in a cache holds, by its path; undefined for any other folder. */
export const snapshotOf = (dir: string): { readonly name: string; readonly revision: string } | undefined => {
  const found = /(?:^|[/\\])models--([^/\\]+)[/\\]snapshots[/\\]([0-9a-f]{40})[/\\]?$/.exec(dir)
  return found === null ? undefined : { name: found[1]!.replace("--", "/"), revision: found[2]! }
}
