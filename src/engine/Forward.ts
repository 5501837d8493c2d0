/**
 * Forward: log-probabilities, scores and values of many rows at once, without a gradient.
 *
 * Unlike the `Scorer`, which groups what happens to be waiting, the batches here are a function of the rows alone: the
 * same rows give the same bits, which a resumed training needs.
 */
import { Effect, Scope } from "effect"
import type { Checkpoint } from "../model/Checkpoint.ts"
import * as Session from "../onnx/Session.ts"
import * as Adapters from "./Adapters.ts"
import * as Batch from "./Batch.ts"
import * as Program from "./Program.ts"
import * as ScoreProgram from "./ScoreProgram.ts"
import { microBatches } from "./Training.ts"
import * as Trainables from "./Trainables.ts"

/** Bytes that the logits of a run may take. */
const logitBytes = 2 ** 27

export interface Forward {
  /** log p of the tokens of non-zero weight of each row, nats; the base alone where `adapter` is undefined. */
  readonly logprobs: (
    adapter: Adapters.Adapter | undefined,
    rows: ReadonlyArray<Batch.WeightedRow>
  ) => Effect.Effect<ReadonlyArray<Float32Array>, Session.SessionError>
  /** What the adapter's head makes of each row's last token (`score`) or of where its tokens are predicted (`value`). */
  readonly head: (
    adapter: Adapters.Adapter,
    kind: "score" | "value",
    rows: ReadonlyArray<Batch.WeightedRow>
  ) => Effect.Effect<ReadonlyArray<Float32Array>, Session.SessionError>
}

/** Compiles what is asked for, when it is first asked for. */
export const make = Effect.fnUntraced(function* (
  checkpoint: Checkpoint,
  { microTokens }: { readonly microTokens: number }
): Effect.fn.Return<Forward, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const sessions = new Map<string, Session.Session>()
  const { hiddenSize, vocabSize } = checkpoint.config

  const sessionFor = Effect.fnUntraced(function* (adapter: Adapters.Adapter | undefined, kind: ScoreProgram.Kind) {
    const key = `${kind} ${Adapters.key(adapter)}`
    const known = sessions.get(key)
    if (known !== undefined) return known
    const session = yield* Session.make(ScoreProgram.build(checkpoint, adapter, kind), {
      folder: Program.weightsFolder
    }).pipe(Effect.provideService(Scope.Scope, scope))
    sessions.set(key, session)
    return session
  })

  const run = Effect.fnUntraced(function* (
    adapter: Adapters.Adapter | undefined,
    kind: ScoreProgram.Kind,
    rows: ReadonlyArray<Batch.WeightedRow>
  ) {
    const session = yield* sessionFor(adapter, kind)
    const out: Array<Float32Array> = []
    const numbered = rows.map((row, i) => ({ row, i }))
    const tokens = kind === "logprobs" ? Math.min(microTokens, logitBytes / (4 * vocabSize)) : microTokens
    for (const part of microBatches(numbered, ({ row }) => row.ids.length, tokens)) {
      const weighted = part.map(({ row }) => row)
      const length = Math.max(...weighted.map((r) => r.ids.length))
      const { at, targets } =
        kind === "score"
          ? { at: weighted.map((r, b) => b * length + r.ids.length - 1), targets: [] }
          : Batch.targets(weighted)
      const results = yield* session.run({
        ...Program.tokenFeeds(weighted.map((r) => r.ids)),
        ...(adapter === undefined ? {} : Adapters.feeds(adapter)),
        at: Session.int64(at, [at.length]),
        ...(kind === "logprobs"
          ? { targets: Session.int64(targets, [targets.length]) }
          : { head: Session.float32(headOf(adapter, kind), [1, hiddenSize]) })
      })
      const all = Session.floats(results["out"]!)
      let from = 0
      for (const { i, row } of part) {
        const to = from + (kind === "score" ? 1 : Batch.counted(row))
        out[i] = all.slice(from, to)
        from = to
      }
    }
    return out
  })

  return { logprobs: (adapter, rows) => run(adapter, "logprobs", rows), head: run }
})

const headOf = (adapter: Adapters.Adapter | undefined, kind: "score" | "value"): Float32Array => {
  const name = ScoreProgram.headOf[kind]
  const weight = adapter === undefined ? undefined : Trainables.views(adapter.layout, adapter.vector).get(name)
  if (weight === undefined) throw new Error(`the adapter has no ${name}`)
  return weight
}
