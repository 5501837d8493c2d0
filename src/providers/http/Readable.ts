/**
 * Readable: whether odd answers are those of a server of another kind, or of single requests.
 *
 * A wrong address answers every request with 404 or with JSON of another shape, and has to be told at once. A server that
 * has answered others does so for one of them, say for a text that its filter does not like: the same request would be
 * answered so again, and the others would not. So a failure is that of its one request while the server can be read.
 *
 * @internal
 */
import { Deferred, Duration, Effect, Exit } from "effect"
import type { AiError } from "effect/ai"
import * as Failure from "./Failure.ts"

export interface Readable {
  /** Tells the odd answers of single requests from those of a server that cannot be read. */
  readonly tell: <A, R>(self: Effect.Effect<A, AiError.AiError, R>) => Effect.Effect<A, AiError.AiError, R>
  /** An answer from an earlier start: the server could be read then. */
  readonly known: Effect.Effect<void>
}

/** So many odd answers one after the other, and the server is no longer the one that it was. */
const most = 20

/** How long an odd answer waits for the requests that are under way, while none has been answered yet. */
const moment = Duration.seconds(5)

export const make: Effect.Effect<Readable> = Effect.sync(() => {
  /** Odd answers since the last one that could be read; infinitely many before the first. */
  let odd = Infinity
  let underWay = 0
  const learnt = Deferred.makeUnsafe<void>()
  const learn = () => void Deferred.doneUnsafe(learnt, Exit.void)

  const tell: Readable["tell"] = (self) =>
    Effect.suspend(() => {
      let here = true
      const leave = () => {
        if (here) underWay--
        here = false
        if (underWay === 0) learn()
      }
      underWay++
      return self.pipe(
        Effect.tap(() =>
          Effect.sync(() => {
            odd = 0
            learn()
          })
        ),
        Effect.catchIf(Failure.isOdd, (error) =>
          Effect.gen(function* () {
            odd++
            leave()
            // The first answer to arrive may be the only odd one.
            if (odd === Infinity) yield* Effect.timeoutOption(Deferred.await(learnt), moment)
            return yield* Effect.fail(odd <= most ? Failure.ofOneRequest(error) : error)
          })
        ),
        Effect.ensuring(Effect.sync(leave))
      )
    })

  const known = Effect.sync(() => {
    if (odd === Infinity) odd = 0
  })
  return { tell, known }
})
