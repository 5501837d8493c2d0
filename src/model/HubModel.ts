/**
 * HubModel: a model by the name of its folder or by its name on the Hugging Face hub.
 *
 * A name of the hub is `owner/name` or `owner/name@revision`. Its revision is resolved to a commit, and the files that
 * Charter reads are fetched into the cache that Python's library uses, too (see `HubCache.ts`). What is used is always
 * the folder of one commit, which never changes.
 *
 * @example
 * const { dir } = yield* HubModel.locate("HuggingFaceTB/SmolLM2-135M-Instruct")
 */
import { listFiles, modelInfo } from "@huggingface/hub"
import { Effect } from "effect"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { credentials } from "../hub/Access.ts"
import * as Download from "../hub/Download.ts"
import * as HubCache from "../hub/HubCache.ts"
import { HubError, fromCause } from "../hub/HubError.ts"
import * as ChatTemplate from "./ChatTemplate.ts"
import * as ModelConfig from "./ModelConfig.ts"
import * as ModelFile from "./ModelFile.ts"
import { quoted } from "./Quoted.ts"
import * as ShardIndex from "./ShardIndex.ts"

/** How far a model's files have come. */
export interface Progress {
  /** `owner/name`. */
  readonly model: string
  /** Bytes that are there, and bytes in all. */
  readonly done: number
  readonly total: number
}

/** Where the hub and its cache are, if not where the environment says, and who is told of a download. */
export interface Options extends Partial<HubCache.Environment> {
  /** Told of every piece that has come. */
  readonly onProgress?: (progress: Progress) => void
}

/** Where a model is. */
export interface Located {
  /** Its folder. */
  readonly dir: string
  /** Its name and commit, if it is in the hub's cache. */
  readonly hub: { readonly name: string; readonly revision: string } | undefined
}

/** The files of a repository that Charter reads, the weights apart. */
const smallFiles = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  ChatTemplate.files.usual,
  ChatTemplate.files.forTools
]

/** Folders of a repository with files that Charter reads. */
const folders: ReadonlyArray<string> = [path.posix.dirname(ChatTemplate.files.forTools)]

type Failure = HubError | ModelFile.CheckpointError | ModelConfig.ModelConfigError

interface Reference {
  readonly name: string
  readonly revision: string
}

/** A name of the hub, or undefined for what can only be a folder. */
const parse = (reference: string): Reference | undefined => {
  const found = /^([\w.-]+\/[\w.-]+)(?:@([\w./-]+))?$/.exec(reference)
  const [, name, revision = "main"] = found ?? []
  return name !== undefined && HubCache.isName(name) && HubCache.staysInside(revision) ? { name, revision } : undefined
}

/**
 * The folder of a model: the given one if it exists, else that of the model's commit in the hub's cache, fetched as far
 * as it is missing.
 *
 * When the hub is not reached or out of order, or must not be asked, what the cache holds of that revision is used if it
 * is whole. Fails with a `HubError` for what the hub does not give, and before any weights are fetched with a
 * `ModelConfigError` when the network is not one Charter computes.
 */
export const locate = Effect.fn("HubModel.locate")(function* (
  reference: string,
  options: Options = {}
): Effect.fn.Return<Located, Failure> {
  const there = yield* Effect.promise(() => fs.realpath(reference).catch(() => undefined))
  if (there !== undefined) return { dir: there, hub: HubCache.snapshotOf(there) }
  const hub = parse(reference)
  if (hub === undefined) {
    return yield* new ModelFile.CheckpointError({
      file: quoted(reference, 300),
      reason: "does not exist; give the folder of a Hugging Face model, or a name of the hub such as owner/name"
    })
  }
  const access = { ...HubCache.environment(), ...options }
  const folder = HubCache.folder(access.cacheDir, { type: "model", name: hub.name })
  const fetched = access.offline
    ? Effect.fail(
        new HubError({
          file: reference,
          reason: `is not in the cache ${access.cacheDir}, and HF_HUB_OFFLINE forbids to ask the hub; fetch it once online`,
          offline: true
        })
      )
    : fetch(reference, hub, folder, access)
  const commit = yield* fetched.pipe(
    Effect.catchTag("HubError", (error) =>
      error.offline
        ? Effect.flatMap(cached(folder, hub.revision), (found) =>
            found === undefined ? Effect.fail(error) : Effect.succeed(found)
          )
        : Effect.fail(error)
    )
  )
  return { dir: path.join(folder, "snapshots", commit), hub: { name: hub.name, revision: commit } }
})

/** The commit of a revision whose files are all in the cache. */
const cached = Effect.fnUntraced(function* (folder: string, revision: string) {
  const commit = HubCache.isCommit(revision) ? revision : HubCache.commitOf(folder, revision)
  if (commit === undefined) return undefined
  const snapshot = path.join(folder, "snapshots", commit)
  const has = (name: string) => ModelFile.exists(path.join(snapshot, name))
  const index = yield* Effect.orElseSucceed(ShardIndex.read(snapshot), () => undefined)
  const weights = (yield* has(ShardIndex.wholeName)) ? [] : [...new Set(index?.values() ?? [ShardIndex.wholeName])]
  for (const name of ["config.json", ...weights]) if (!(yield* has(name))) return undefined
  return commit
})

/** Fetches what is missing of a revision; gives its commit. */
const fetch = Effect.fnUntraced(function* (
  reference: string,
  { name, revision }: Reference,
  folder: string,
  access: HubCache.Environment & Options
): Effect.fn.Return<string, Failure> {
  const asked = <A>(ask: (signal: AbortSignal) => Promise<A>) =>
    Effect.tryPromise({ try: ask, catch: (cause) => fromCause(reference, cause) })
  const fail = (reason: string) => new HubError({ file: reference, reason, offline: false })

  const commit = HubCache.isCommit(revision)
    ? revision
    : yield* asked(async (signal) => {
        const fields = { name, revision, additionalFields: ["sha"] as Array<"sha"> }
        return (await modelInfo({ ...fields, ...credentials(access, { signal }) })).sha
      })
  if (!HubCache.isCommit(commit)) return yield* fail("has no commit on the hub; try again later")
  const listed = yield* asked(async (signal) => {
    const files = new Map<string, ReturnType<typeof Download.described>>()
    const repo = { type: "model", name } as const
    const list = async (path?: string): Promise<void> => {
      const asked = { repo, revision: commit, ...(path === undefined ? {} : { path }) }
      for await (const entry of listFiles({ ...asked, ...credentials(access, { signal }) })) {
        if (entry.type === "file") files.set(entry.path, Download.described(entry))
        if (entry.type === "directory" && folders.includes(entry.path)) await list(entry.path)
      }
    }
    await list()
    return files
  })
  let [done, total] = [0, 0]
  const get = Effect.fnUntraced(function* (names: ReadonlyArray<string>): Effect.fn.Return<void, HubError> {
    for (const file of names) total += listed.get(file)?.size ?? 0
    for (const file of names) {
      const known = listed.get(file)
      if (known === undefined)
        return yield* fail(`has a file ${quoted(file)} without a hash and a size; try again later`)
      const source = { repository: { type: "model", name }, commit, path: file, ...known } as const
      yield* Download.file(source, access.cacheDir, access, (bytes) => {
        done += bytes
        access.onProgress?.({ model: name, done, total })
      })
    }
  })

  const snapshot = path.join(folder, "snapshots", commit)
  if (!listed.has("config.json"))
    return yield* fail("has no config.json, so it is no model that Charter reads; choose another")
  yield* get(smallFiles.filter((file) => listed.has(file)))
  const configFile = path.join(snapshot, "config.json")
  // Better refused now than after gigabytes.
  yield* Effect.fromResult(ModelConfig.fromJson(yield* ModelFile.readJson(configFile), configFile))

  if (listed.has(ShardIndex.wholeName)) {
    yield* get([ShardIndex.wholeName])
  } else if (listed.has(ShardIndex.indexName)) {
    yield* get([ShardIndex.indexName])
    const shards = [...new Set((yield* ShardIndex.read(snapshot))?.values() ?? [])]
    const missing = shards.find((shard) => !listed.has(shard))
    if (missing !== undefined) {
      return yield* fail(`lists the weight file ${quoted(missing)}, which it does not have; choose another model`)
    }
    yield* get(shards)
  } else {
    return yield* fail(`has no weights as safetensors; choose a model with ${ShardIndex.wholeName}`)
  }
  if (!HubCache.isCommit(revision)) {
    yield* asked(async () => HubCache.noteUnsafe(folder, revision, commit))
  }
  return commit
})
