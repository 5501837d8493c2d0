import { NodeServices } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Fingerprint from "../../src/model/Fingerprint.ts"

const sandbox = fileURLToPath(new URL("../../assets/sandbox", import.meta.url))

describe("the fingerprint of a model that is given text", () => {
  it.effect(
    "is another one when its weights are, or how it reads text or ends answers, and the same in any folder",
    () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const of = (dir: string) => Effect.flatMap(Checkpoint.open(dir), Fingerprint.ofText)
        const original = yield* of(sandbox)
        const changed = Effect.fnUntraced(function* (name: string, change: (bytes: Uint8Array) => Uint8Array) {
          const dir = path.join(yield* fs.makeTempDirectoryScoped(), "model")
          yield* fs.copy(sandbox, dir)
          expect(yield* of(dir)).toBe(original)
          const file = path.join(dir, name)
          yield* fs.makeDirectory(path.dirname(file), { recursive: true })
          yield* fs.writeFile(file, change((yield* fs.exists(file)) ? yield* fs.readFile(file) : new Uint8Array()))
          return yield* of(dir)
        })
        const utf8 = new TextEncoder()
        const longer = (bytes: Uint8Array) => new Uint8Array([...bytes, ...utf8.encode(" ")])
        const fingerprints = [
          original,
          // The last byte of the last tensor.
          yield* changed("model.safetensors", (bytes) => bytes.map((x, i) => (i + 1 < bytes.length ? x : x ^ 1))),
          yield* changed("tokenizer.json", longer),
          yield* changed("tokenizer_config.json", longer),
          yield* changed("chat_template.jinja", () => utf8.encode("{{ messages[0].content }}")),
          yield* changed("additional_chat_templates/tool_use.jinja", () => utf8.encode("{{ tools }}")),
          yield* changed("generation_config.json", () => utf8.encode(JSON.stringify({ eos_token_id: 7 })))
        ]
        expect(new Set(fingerprints).size).toBe(fingerprints.length)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
