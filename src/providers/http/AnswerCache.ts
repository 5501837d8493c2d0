/**
 * AnswerCache: answers kept by the content of their requests, so that nothing is paid for twice.
 *
 * The key is a hash of where, what and, where the answer is sampled, of which sample it is: two samples of one prompt
 * are two answers. Failures are not kept, and a torn entry is a missing one, which is why this is a plain store and no
 * `PersistedCache`.
 */
import { createHash } from "node:crypto"
import { Context, Effect, Layer, Schema } from "effect"
import type { FileSystem, Path, PlatformError } from "effect"
import { KeyValueStore } from "effect/persistence"
import * as Folder from "../../Folder.ts"
import type { Tokens } from "./Tokens.ts"
import type { Label } from "./Usage.ts"

/** What an answer was for and what it took, for caches that keep accounts as well. */
export interface Paid {
  readonly label: Label
  readonly tokens: Tokens
}

/** Answers by the keys of their requests. */
export class AnswerCache extends Context.Service<
  AnswerCache,
  {
    readonly get: (key: string) => Effect.Effect<unknown>
    readonly set: (key: string, answer: unknown, paid: Paid) => Effect.Effect<void>
  }
>()("charter/providers/AnswerCache") {}

/** The key of a request. */
export const keyOf = (...content: ReadonlyArray<unknown>): string =>
  createHash("sha256").update(JSON.stringify(content)).digest("hex")

const parse = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Unknown))

/** Over the store in force. A store that fails is reported and does without: the answer itself is there. */
export const layer: Layer.Layer<AnswerCache, never, KeyValueStore.KeyValueStore> = Layer.effect(
  AnswerCache,
  Effect.map(KeyValueStore.KeyValueStore, (store) => ({
    get: (key) =>
      store.get(key).pipe(
        Effect.flatMap((text) => (text === undefined ? Effect.undefined : parse(text))),
        Effect.catchTag("SchemaError", () => Effect.undefined),
        Effect.catch((error) => Effect.as(Effect.logWarning(`no cache: ${error.message}`), undefined))
      ),
    set: (key, answer) =>
      Effect.catch(store.set(key, JSON.stringify(answer)), (error) => Effect.logWarning(`no cache: ${error.message}`))
  }))
)

/** In a folder, one file an answer. */
export const layerFolder = (
  folder: string
): Layer.Layer<AnswerCache, PlatformError.PlatformError, FileSystem.FileSystem | Path.Path> =>
  Layer.provide(layer, Layer.unwrap(Effect.as(Folder.make(folder), KeyValueStore.layerFileSystem(folder))))

/** In memory, for as long as the layer lives. */
export const layerMemory: Layer.Layer<AnswerCache> = Layer.provide(layer, KeyValueStore.layerMemory)
