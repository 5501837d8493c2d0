/**
 * RolloutLog: the sampled answers of a training with their rewards, one line each, all of an update at once.
 *
 * Answers of an update that was not finished are used again; those beyond it are cut off.
 */
import { Effect } from "effect"
import type { Scope } from "effect"
import { closeSync, existsSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from "node:fs"

/** An answer with its reward. */
export interface Rollout {
  readonly step: number
  readonly id: string
  readonly promptIds: ReadonlyArray<number>
  readonly tokenIds: ReadonlyArray<number>
  readonly logprobs: ReadonlyArray<number>
  readonly finish: "stop" | "length"
  /** What the reward model says. */
  readonly score: number
  /** What is learnt from: within bounds, and less for an answer without an end. */
  readonly reward: number
  readonly text?: string
}

export interface RolloutLog {
  readonly of: (step: number) => ReadonlyArray<Rollout>
  readonly append: (rollouts: ReadonlyArray<Rollout>) => void
}

/** Opens the log of a training that has finished so many updates, for as long as the scope lasts. */
export const open = (file: string, finished: number): Effect.Effect<RolloutLog, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const text = existsSync(file) ? readFileSync(file, "utf8") : ""
        const whole = text
          .slice(0, text.lastIndexOf("\n") + 1)
          .split("\n")
          .slice(0, -1)
        const next: Array<Rollout> = []
        const kept = whole.filter((line) => {
          const rollout = JSON.parse(line) as Rollout
          if (rollout.step === finished + 1) next.push(rollout)
          return rollout.step <= finished
        })
        const beside = `${file}.tmp`
        writeFileSync(beside, kept.map((line) => `${line}\n`).join(""))
        renameSync(beside, file)
        return { fd: openSync(file, "a"), next }
      }),
      ({ fd }) => Effect.sync(() => closeSync(fd))
    ),
    ({ fd, next }): RolloutLog => ({
      of: (step) => (step === finished + 1 ? next : []),
      append: (rollouts) => {
        const bytes = Buffer.from(rollouts.map((rollout) => `${JSON.stringify(rollout)}\n`).join(""))
        let done = 0
        while (done < bytes.length) done += writeSync(fd, bytes, done)
      }
    })
  )
