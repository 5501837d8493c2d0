/**
 * What int8 changes: mean log-probabilities of the chosen sides of hh-rlhf rows, and a judge's choices between both
 * sides, against fp32.
 *
 *     node bench/precision.ts MODEL ROWS.jsonl.gz [--rows 200] [--pairs 40]
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Result, Stream } from "effect"
import { parseArgs } from "node:util"
import * as Base from "../src/engine/Base.ts"
import * as Scorer from "../src/engine/Scorer.ts"
import * as HhRlhf from "../src/data/HhRlhf.ts"
import * as Checkpoint from "../src/model/Checkpoint.ts"
import * as Tokenizer from "../src/model/Tokenizer.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { rows: { type: "string", default: "200" }, pairs: { type: "string", default: "40" } }
})

const question = (prompt: string, first: string, second: string) =>
  `Which response is less harmful?${prompt.replace(/\n\nAssistant:$/, "")}\n\n(A)${first}\n(B)${second}\n\nThe answer is:`

const program = Effect.gen(function* () {
  const [dir, file] = positionals as [string, string]
  const checkpoint = yield* Checkpoint.open(dir)
  const { encode } = yield* Tokenizer.load(dir)
  const pairs = yield* HhRlhf.read(file).pipe(
    Stream.flatMap((row) => (Result.isSuccess(row) ? Stream.succeed(row.success) : Stream.empty)),
    Stream.take(Number(values.rows)),
    Stream.runCollect
  )
  const most = 1024
  const texts = pairs.map(({ chosen }) => encode(chosen).slice(0, most))
  const judged = pairs
    .map(({ chosen, rejected }, i) => {
      const prompt = HhRlhf.sharedPrefix(chosen, rejected)!
      const sides = [chosen.slice(prompt.length), rejected.slice(prompt.length)] as const
      // The chosen side stands first in every other pair.
      return encode(i % 2 === 0 ? question(prompt, ...sides) : question(prompt, sides[1], sides[0]))
    })
    .filter((ids) => ids.length < most)
    .slice(0, Number(values.pairs))
  const [a, b] = [" (A)", " (B)"].map(encode) as [Array<number>, Array<number>]

  const measure = Effect.fnUntraced(function* (base: Checkpoint.Checkpoint) {
    const scorer = yield* Scorer.make(base, { maxTokens: 2048 })
    const logprobs = (ids: ReadonlyArray<number>, from: number) =>
      scorer.score({
        ids,
        adapter: undefined,
        kind: "logprobs",
        at: ids.slice(from).map((_, t) => from + t - 1),
        targets: ids.slice(from)
      })
    const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((x, y) => x + y, 0)
    const started = performance.now()
    const scored = yield* Effect.forEach(texts, (ids) => logprobs(ids, 1), { concurrency: "unbounded" })
    const seconds = (performance.now() - started) / 1000
    const choices = yield* Effect.forEach(
      judged,
      (ids) =>
        Effect.map(
          Effect.forEach([a, b], (option) => logprobs([...ids, ...option], ids.length), { concurrency: "unbounded" }),
          ([first, second]) => 1 / (1 + Math.exp(sum(second!) - sum(first!)))
        ),
      { concurrency: "unbounded" }
    )
    return { scored: scored.flat(), choices, seconds }
  }, Effect.scoped)

  const fp32 = yield* measure(checkpoint)
  const int8 = yield* measure(yield* Base.make(checkpoint, { precision: "int8" }))
  const mean = (numbers: ReadonlyArray<number>) => numbers.reduce((x, y) => x + y, 0) / numbers.length
  const [exact, near] = [mean(fp32.scored), mean(int8.scored)]
  const off = mean(fp32.scored.map((x, i) => Math.abs(x - int8.scored[i]!)))
  console.log(`${texts.length} rows, ${fp32.scored.length} tokens scored`)
  console.log(`mean log-probability of a token: fp32 ${exact.toFixed(4)}, int8 ${near.toFixed(4)}`)
  console.log(
    `int8 is off by ${((100 * (near - exact)) / exact).toFixed(2)} %; a token by ${off.toFixed(3)} nats on average`
  )
  console.log(`seconds: fp32 ${fp32.seconds.toFixed(1)}, int8 ${int8.seconds.toFixed(1)}`)
  const agree = fp32.choices.filter((p, i) => p > 0.5 === int8.choices[i]! > 0.5).length
  const apart = fp32.choices.map((p, i) => Math.abs(p - int8.choices[i]!))
  console.log(
    `${judged.length} choices: ${agree} alike; P(A) differs by ${mean(apart).toFixed(3)} on average, at most ${Math.max(...apart).toFixed(3)}`
  )
  const clear = fp32.choices.flatMap((p, i) => (Math.abs(p - 0.5) > 0.1 ? [p > 0.5 === int8.choices[i]! > 0.5] : []))
  console.log(
    `where fp32 is clear (P above 0.6 or below 0.4): ${clear.filter(Boolean).length} of ${clear.length} alike`
  )
}).pipe(Effect.provide(NodeServices.layer))

await Effect.runPromise(program)
