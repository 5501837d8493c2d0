/** Models whose files were broken and that open nevertheless: ONNX Runtime computes them or says why it does not. */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Mutation from "../model/Mutation.ts"
import { temporaryFolder } from "../model/temporaryFolder.ts"
import * as Victim from "../model/victim.ts"

const seed = 7
const files = ["whole/config.json", "whole/model.safetensors", "shards/model.safetensors.index.json"]

describe("The engine", () => {
  it.live(`does not end the process over broken files that open, seed ${seed}`, () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      yield* Victim.write(dir, "llama3")
      let computed = 0
      for (let i = 0; i < 600; i++) {
        const file = files[i % files.length]!
        const target = path.join(dir, file)
        const whole = fs.readFileSync(target)
        fs.writeFileSync(target, Mutation.mutate(file, whole, seed, i))
        const opened = yield* Effect.exit(Checkpoint.open(path.dirname(target)))
        if (Exit.isSuccess(opened)) {
          const exit = yield* Effect.exit(
            Effect.scoped(
              Effect.gen(function* () {
                const scorer = yield* Scorer.make(opened.value, { maxTokens: 64 })
                const request = {
                  ids: [1, 5, 9],
                  adapter: undefined,
                  kind: "logprobs",
                  at: [0, 1],
                  targets: [5, 9]
                } as const
                return yield* scorer.score(request)
              })
            )
          )
          if (Exit.isSuccess(exit)) computed++
          else
            expect(
              exit.cause.reasons.every((reason) => reason._tag === "Fail"),
              Cause.pretty(exit.cause)
            ).toBe(true)
        }
        fs.writeFileSync(target, whole)
      }
      expect(computed).toBeGreaterThan(20)
    })
  )
})
