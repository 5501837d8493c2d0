/**
 * A policy's failure as the failure that `effect/ai` knows, so that its retries and fallbacks apply.
 *
 * @internal
 */
import { AiError } from "effect/ai"
import type { PolicyError } from "../../Policy.ts"

/** `retryable` is kept: an internal error may be tried again, an invalid request may not. */
export const fromPolicyError =
  (module: string, method: string) =>
  (error: PolicyError): AiError.AiError => {
    // Outside of a stage a sample has no name.
    const description = error.id ? `${error.message} (sample ${error.id})` : error.message
    const reason = error.retryable
      ? new AiError.InternalProviderError({ description })
      : new AiError.InvalidRequestError({ description })
    return AiError.make({ module, method, reason })
  }
