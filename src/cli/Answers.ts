/**
 * Answers: what hosted models answered in a run, in `answers.jsonl` of its folder. Nothing in it is paid for twice, and
 * it is the account of what was spent over all starts.
 */
import { Effect, Schema } from "effect"
import type { Scope } from "effect"
import { join } from "node:path"
import type { AnswerCache } from "../providers/http/AnswerCache.ts"
import * as Tokens from "../providers/http/Tokens.ts"
import * as Usage from "../providers/http/Usage.ts"
import * as Log from "../recipes/Log.ts"
import { orDie, type RunError } from "../recipes/RunError.ts"

/** An answer by the hash of its request, with what it was for and what it took. */
const Answer = Schema.Struct({
  key: Schema.String,
  model: Schema.String,
  stage: Schema.String,
  principle: Schema.String,
  tokens: Schema.Struct({ input: Schema.Finite, output: Schema.Finite }),
  answer: Schema.Json
})

export const fileName = "answers.jsonl"

export interface Answers {
  readonly cache: AnswerCache["Service"]
  readonly usage: Usage.Usage["Service"]
  /** What was spent before. */
  readonly spent: Tokens.Tokens
}

/** Opens the answers of the run in `dir`, which has to be locked. */
export const open = Effect.fnUntraced(function* (dir: string): Effect.fn.Return<Answers, RunError, Scope.Scope> {
  const log = yield* Log.open({ file: join(dir, fileName), schema: Answer, key: ({ key }) => key })
  // Answers come in an order that no two runs share.
  const keys = Effect.sync(() => log.values().map(({ key }) => key))
  yield* Effect.addFinalizer(() => Effect.ignore(Effect.flatMap(keys, (found) => log.settle(found.toSorted()))))
  const usage = yield* Usage.make
  for (const { tokens, answer: _, key: __, ...label } of log.values()) {
    yield* usage.record(label, { _tag: "Answered", tokens })
  }
  return {
    usage,
    spent: log.values().reduce((sum, { tokens }) => Tokens.add(sum, tokens), Tokens.zero),
    cache: {
      get: (key) => Effect.sync(() => log.get(key)?.answer),
      set: (key, answer, { label, tokens }) =>
        // What a server answered as JSON is JSON.
        orDie(log.append({ key, ...label, tokens, answer: answer as Schema.Json }))
    }
  }
})
