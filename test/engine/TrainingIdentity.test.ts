import { NodeServices } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FileSystem, Layer, Stream } from "effect"
import { RpcTest } from "effect/rpc"
import * as Engine from "../../src/engine/Engine.ts"
import { EngineRpc } from "../../src/engine/EngineRpc.ts"
import * as Learner from "../../src/engine/Learner.ts"
import * as TokenLists from "../../src/engine/TokenLists.ts"
import * as TrainingState from "../../src/engine/TrainingState.ts"
import * as Golden from "./golden.ts"
import type { LearnOptions } from "../../src/Policy.ts"
import { learn } from "./learn.ts"

const samples = {
  names: ["a", "b"],
  rows: TokenLists.of([
    [5, 6, 7],
    [5, 8]
  ]),
  from: [1, 1]
}

const others = {
  "other tokens": {
    ...samples,
    rows: TokenLists.of([
      [5, 6, 9],
      [5, 8]
    ])
  },
  "tokens that are cut elsewhere": {
    ...samples,
    rows: TokenLists.of([
      [5, 6],
      [7, 5, 8]
    ])
  },
  "another beginning of what is learnt": { ...samples, from: [2, 1] },
  "other names": { ...samples, names: ["a", "c"] }
}

describe("the state of a training", () => {
  it.live("is gone on with by the training that it is of, and by no other", () =>
    Effect.gen(function* () {
      const handlers = yield* Layer.build(Engine.layer({ dir: Golden.folder }))
      const client = yield* Effect.provide(RpcTest.makeClient(EngineRpc), handlers)
      const dir = yield* Effect.flatMap(FileSystem.FileSystem, (fs) => fs.makeTempDirectoryScoped())
      const source = { _tag: "fresh", rank: 4, alpha: 8, seed: 1 } as const
      yield* client.MakeAdapter({ name: "p", source, head: "value", reference: null })
      // The two heads are alike in size, so the numbers of one would pass for those of the other.
      yield* client.MakeAdapter({ name: "r", source, head: "score", reference: null })
      const supervised = (rows: typeof samples, options: Partial<LearnOptions> = {}) =>
        Stream.runCollect(
          client.LearnSupervised({ adapter: "p", ...rows, options: { ...learn, ...options, stateDir: dir } })
        )
      const refused = Effect.fnUntraced(function* (what: string, training: Effect.Effect<unknown, object>) {
        expect(yield* Effect.flip(training), what).toMatchObject({
          message: expect.stringMatching(/holds the state of another training .*; delete .* to start over/)
        })
      })

      expect(yield* supervised(samples)).not.toEqual([])
      expect(yield* supervised(samples)).toEqual([])
      for (const [what, rows] of Object.entries(others)) yield* refused(what, supervised(rows))
      yield* refused("another seed", supervised(samples, { seed: learn.seed + 1 }))
      yield* refused("another batch size", supervised(samples, { batchSize: learn.batchSize + 1 }))
      const { names, rows } = samples
      const pairs = { names, first: rows, second: rows, probabilities: [1, 1] }
      const preferences = (stateDir: string, other: Partial<typeof pairs> = {}) =>
        Stream.runCollect(
          client.LearnPreferences({ adapter: "r", ...pairs, ...other, options: { ...learn, stateDir } })
        )
      yield* refused("pairs", preferences(dir))
      yield* refused("updates", client.Restore({ adapter: "p", stateDir: dir }))

      expect(yield* preferences(`${dir}/pairs`)).not.toEqual([])
      expect(yield* preferences(`${dir}/pairs`)).toEqual([])
      yield* refused("other probabilities", preferences(`${dir}/pairs`, { probabilities: [1, 0] }))
      yield* refused("other second answers", preferences(`${dir}/pairs`, { second: others["other tokens"].rows }))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("of an earlier version, which does not say what it belongs to, is gone on with by any of its size", () =>
    Effect.gen(function* () {
      const dir = yield* Effect.flatMap(FileSystem.FileSystem, (fs) => fs.makeTempDirectoryScoped())
      yield* TrainingState.save(dir, Learner.initialState(new Float32Array(3)), 5)
      expect(yield* TrainingState.load(dir, 3, "supervised 0123")).toMatchObject({ progress: 5 })
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
