import { NodeServices } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FileSystem, Stream } from "effect"
import * as EngineWorker from "../../src/engine/EngineWorker.ts"
import * as TokenLists from "../../src/engine/TokenLists.ts"
import * as Golden from "./golden.ts"
import { learn } from "./learn.ts"

describe("an engine in a thread of its own", () => {
  it.live(
    "learns a step when it is asked for, however slowly the steps are read, and is left at the last one read",
    () =>
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const client = yield* EngineWorker.client({ dir: Golden.folder })
        const names = Array.from({ length: 30 }, (_, i) => `row ${i}`)
        const rows = () => TokenLists.of(names.map((_, i) => [5, 6, 7 + i]))
        const others = () => TokenLists.of(names.map((_, i) => [5, 6, 8 + i, 9]))
        const source = { _tag: "fresh", rank: 4, alpha: 8, seed: 1 } as const
        const options = { ...learn, batchSize: 1, learningRate: 0.01 }
        const probabilities = names.map(() => 0.8)
        const pupil = { adapter: "pupil", names, from: names.map(() => 1) }
        const judge = { adapter: "judge", names, probabilities }
        for (const { head, name, now, steps } of [
          {
            name: "pupil",
            head: "none" as const,
            now: Effect.map(client.Logprobs({ ids: [5, 6, 7, 8], from: 1, adapter: "pupil" }), (numbers) =>
              numbers.join()
            ),
            steps: (stateDir: string) =>
              client.LearnSupervised({ ...pupil, rows: rows(), options: { ...options, stateDir } })
          },
          {
            name: "judge",
            head: "score" as const,
            now: Effect.map(client.Score({ ids: [5, 6, 7, 8], adapter: "judge" }), String),
            steps: (stateDir: string) =>
              client.LearnPreferences({ ...judge, first: rows(), second: others(), options: { ...options, stateDir } })
          }
        ]) {
          yield* client.MakeAdapter({ name, source, head, reference: null })
          const stateDir = yield* fs.makeTempDirectoryScoped()
          // Who reads looks at what is learnt a few times between two steps.
          const looks = Effect.all([now, now, now, now])
          const seen = yield* Stream.runCollect(
            Stream.take(
              Stream.mapEffect(steps(stateDir), () => looks),
              3
            )
          )
          const each = seen.map((numbers) => [...new Set(numbers)])
          expect(each.map((numbers) => numbers.length)).toEqual([1, 1, 1])
          expect(new Set(each.flat()).size).toBe(3)
          expect(yield* now).toBe(each[2]![0])
          // What goes on from here begins with a step that was read, or the first one that was not.
          const { step } = (yield* Stream.runCollect(Stream.take(steps(stateDir), 1)))[0]!
          expect(step).toBeLessThanOrEqual(4)
        }
      }).pipe(Effect.provide(NodeServices.layer))
  )
})
