/**
 * EngineFailure: what goes wrong in an engine, in the words of its contract.
 */
import { Cause, Effect, Result, Stream } from "effect"
import * as Session from "../onnx/Session.ts"
import * as Decoder from "./Decoder.ts"
import { EngineError } from "./EngineRpc.ts"

/** A run that failed says nothing about what was asked: it may go well another time, on a machine with more memory. */
export const asEngineError = (cause: unknown): EngineError =>
  cause instanceof EngineError
    ? cause
    : new EngineError({
        message: cause instanceof Error ? cause.message : String(cause),
        retryable: cause instanceof Session.SessionError,
        ...(cause instanceof Decoder.DecoderError ? { refused: true } : {})
      })

/** What no handler foresees is the affair of the one who asked: untold, it would end all requests under way. */
const unforeseen = (defect: unknown): EngineError =>
  new EngineError({ message: `The engine cannot carry this out: ${String(defect)}`, retryable: false })

/** A handler's failures, foreseen or not, in the contract's words. */
export const told = <A, E, R>(handler: Effect.Effect<A, E, R>): Effect.Effect<A, EngineError, R> =>
  handler.pipe(
    Effect.mapError(asEngineError),
    Effect.catchDefect((defect) => Effect.fail(unforeseen(defect)))
  )

/** The same of a handler whose answers are many. */
export const toldStream = <A, E, R>(handler: Stream.Stream<A, E, R>): Stream.Stream<A, EngineError, R> =>
  handler.pipe(
    Stream.mapError(asEngineError),
    Stream.catchCause((cause) => {
      const defect = Cause.findDefect(cause)
      return Result.isSuccess(defect) ? Stream.fail(unforeseen(defect.success)) : Stream.failCause(cause)
    })
  )

/** The refusal of a request that can never be carried out. */
export const refuse = (message: string): Effect.Effect<never, EngineError> =>
  Effect.fail(new EngineError({ message, retryable: false, refused: true }))
