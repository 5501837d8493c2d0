/**
 * Hub: files of data sets on the Hugging Face hub, kept in its cache folder.
 *
 * A revision is resolved to its commit first, and files are kept by commit, in the layout of the Python library: what
 * either has fetched is there for the other. With `offline` nothing is asked of the network.
 *
 * @example
 * Hub.read({ dataset: "HuggingFaceH4/cai-conversation-harmless", path: "data/test_sft-00000-of-00001.parquet" })
 */
import { datasetInfo, listFiles, pathsInfo } from "@huggingface/hub"
import { Effect, FileSystem, Path, Stream } from "effect"
import type { Redacted } from "effect"
import * as Access from "../hub/Access.ts"
import * as Download from "../hub/Download.ts"
import * as HubCache from "../hub/HubCache.ts"
import * as Bytes from "./Bytes.ts"
import { DataError } from "./DataError.ts"
import * as Files from "./Files.ts"
import type * as Rows from "./Rows.ts"

/** Where a data set is. */
export interface Options {
  /** Its name, as `owner/name`. */
  readonly dataset: string
  /** A branch, a tag or a commit; `main` if not given. */
  readonly revision?: string | undefined
  /** The cache folder; if not given, the one that `HF_HUB_CACHE` or `HF_HOME` name. */
  readonly cacheDir?: string | undefined
  /** Whether only the cache is looked at; if not given, whether `HF_HUB_OFFLINE` is 1. */
  readonly offline?: boolean | undefined
  readonly accessToken?: Redacted.Redacted | undefined
  readonly hubUrl?: string | undefined
}

/** A file of a data set. */
export interface FileOptions extends Options {
  readonly path: string
}

const accessOf = ({ accessToken, hubUrl }: Options): Access.Access => {
  const { endpoint, token } = HubCache.environment()
  return { endpoint: hubUrl ?? endpoint, token: accessToken ?? token }
}

const credentials = (options: Options) => Access.credentials(accessOf(options))

/** The cache, the folder of the data set in it, and the commit of the revision. */
const locate = Effect.fnUntraced(function* (options: Options) {
  const environment = HubCache.environment()
  const { cacheDir = environment.cacheDir, dataset, revision = "main", offline = environment.offline } = options
  const fail = (message: string) => new DataError({ file: dataset, message })
  if (!HubCache.isName(dataset)) {
    return yield* fail(`${dataset} is no name of a data set; it is owner/name.`)
  }
  if (!HubCache.staysInside(revision)) return yield* fail(`${revision} is no name of a revision.`)
  const folder = HubCache.folder(cacheDir, { type: "dataset", name: dataset })
  if (HubCache.isCommit(revision)) return { cacheDir, folder, commit: revision, offline }
  if (offline) {
    const commit = HubCache.commitOf(folder, revision)
    if (commit !== undefined) return { cacheDir, folder, commit, offline }
    return yield* fail(`${dataset} at ${revision} is not in the cache ${folder}, and the hub is not asked (offline).`)
  }
  const info = yield* Effect.tryPromise({
    try: () => datasetInfo({ name: dataset, revision, additionalFields: ["sha"], ...credentials(options) }),
    catch: (error) => fail(`The hub does not give ${dataset} at ${revision}: ${sentence(error)}`)
  })
  if (!HubCache.isCommit(info.sha)) return yield* fail(`The hub gives no commit of ${dataset} at ${revision}.`)
  yield* Effect.try({
    try: () => HubCache.noteUnsafe(folder, revision, info.sha),
    catch: (error) => fail(`The cache ${folder} cannot be written: ${sentence(error)}`)
  })
  return { cacheDir, folder, commit: info.sha, offline }
})

const sentence = (error: unknown): string => {
  const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : ""
  return `${error instanceof Error ? error.message : String(error)}${cause}`
}

/** The paths of the files of a data set at a revision, sorted. */
export const list = Effect.fnUntraced(function* (options: Options) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const { folder, commit, offline } = yield* locate(options)
  const fail = (message: string) => new DataError({ file: options.dataset, message })
  if (offline) {
    const snapshot = path.join(folder, "snapshots", commit)
    const names = yield* fs
      .readDirectory(snapshot, { recursive: true })
      .pipe(Effect.mapError(() => fail(`${options.dataset} at ${commit} is not in the cache ${folder} (offline).`)))
    const files = yield* Effect.filter(names, (name) =>
      fs.stat(path.join(snapshot, name)).pipe(
        Effect.map((info) => info.type === "File" && !Bytes.isPart(name) && !Download.isUnfinished(name)),
        Effect.orElseSucceed(() => false)
      )
    )
    return files.sort()
  }
  const repo = { type: "dataset", name: options.dataset } as const
  return yield* Effect.tryPromise({
    try: async () => {
      const found: Array<string> = []
      for await (const entry of listFiles({ repo, recursive: true, revision: commit, ...credentials(options) })) {
        if (entry.type === "file") found.push(entry.path)
      }
      return found.sort()
    },
    catch: (error) => fail(`The hub does not list ${options.dataset}: ${sentence(error)}`)
  })
})

/** The file in the cache, fetched if it is not there yet. */
export const file = Effect.fnUntraced(function* (options: FileOptions) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const name = `${options.dataset}/${options.path}`
  const fail = (message: string) => new DataError({ file: name, message })
  if (!HubCache.staysInside(options.path)) return yield* fail(`${options.path} is no path in a data set.`)
  const { cacheDir, folder, commit, offline } = yield* locate(options)
  const target = path.join(folder, "snapshots", commit, options.path)
  if (yield* fs.exists(target).pipe(Effect.orElseSucceed(() => false))) return target
  if (offline) return yield* fail(`${name} is not in the cache ${folder}, and the hub is not asked (offline).`)
  const repo = { type: "dataset", name: options.dataset } as const
  const listed = yield* Effect.tryPromise({
    try: () => pathsInfo({ repo, paths: [options.path], revision: commit, ...credentials(options) }),
    catch: (error) => fail(`The hub does not give ${name}: ${sentence(error)}`)
  })
  const entry = listed.find(({ type }) => type === "file")
  if (entry === undefined) return yield* fail(`There is no file ${options.path} in ${options.dataset} at ${commit}.`)
  const known = Download.described(entry)
  if (known === undefined) return yield* fail(`The hub gives no hash and size of ${name}; try again later.`)
  const source = { repository: repo, commit, path: options.path, ...known }
  return yield* Download.file(source, cacheDir, accessOf(options), () => {}).pipe(
    Effect.mapError(({ message }) => fail(message))
  )
})

/** The rows of a file of a data set, in the format that its name says or that is given. */
export const read = (
  options: FileOptions,
  as?: Files.Format
): Rows.Reader<Rows.Row, FileSystem.FileSystem | Path.Path> =>
  Stream.unwrap(Effect.map(file(options), (found) => Files.read(found, as ?? Files.format(options.path))))
