import { assert, describe, it } from "@effect/vitest"
import { Duration, Redacted } from "effect"
import { Headers } from "effect/http"
import * as Failure from "../../../src/providers/http/Failure.ts"

const place: Failure.Place = { module: "Client", method: "ask", url: "https://host:8/v1/chat?key=secret", model: "m" }

/** The failure that an answer with a status is. */
const failed = (status: number, body: unknown = "why", headers: Record<string, string> = {}) =>
  Failure.fromStatus(
    place,
    status,
    Headers.fromInput(headers),
    typeof body === "string" ? body : JSON.stringify(body),
    Date.UTC(2026, 0, 1)
  )

const kind = (error: ReturnType<typeof failed>) => [error.reason._tag, error.isRetryable] as const

describe("an answer that is none", () => {
  it.each([
    [301, "InvalidRequestError", false],
    [400, "InvalidRequestError", false],
    [401, "AuthenticationError", false],
    [402, "QuotaExhaustedError", false],
    [403, "AuthenticationError", false],
    [404, "InvalidRequestError", false],
    [408, "InternalProviderError", true],
    [409, "InternalProviderError", true],
    [410, "InvalidRequestError", false],
    [422, "InvalidRequestError", false],
    [429, "RateLimitError", true],
    [499, "InvalidRequestError", false],
    [500, "InternalProviderError", true],
    [529, "InternalProviderError", true]
  ] as const)("with the status %i is a %s; that it may be asked for again: %s", (status, tag, retryable) => {
    const error = failed(status)
    assert.deepStrictEqual(kind(error), [tag, retryable])
    assert.include(error.message, `host:8 answered ${status}: why (model "m"); `)
    assert.notInclude(error.message, "secret")
  })

  it("tells a wrong key from one that may not do this", () => {
    const kinds = [401, 403].map((status) => {
      const { reason } = failed(status)
      return reason._tag === "AuthenticationError" ? reason.kind : undefined
    })
    assert.deepStrictEqual(kinds, ["InvalidKey", "InsufficientPermissions"])
  })

  it("tells an account that is spent by what the server says, where the status is that of a request", () => {
    for (const code of ["insufficient_quota", "billing_not_active", "billing_hard_limit_reached"]) {
      for (const error of [{ code }, { type: code }]) {
        assert.deepStrictEqual(kind(failed(429, { error })), ["QuotaExhaustedError", false])
        assert.deepStrictEqual(kind(failed(400, { error })), ["QuotaExhaustedError", false])
        assert.strictEqual(failed(500, { error }).reason._tag, "InternalProviderError")
      }
    }
    const low = { error: { type: "invalid_request_error", message: "Your credit balance is too low to go on." } }
    assert.strictEqual(failed(400, low).reason._tag, "QuotaExhaustedError")
    assert.strictEqual(failed(429, { error: { code: "no_insufficient_quotas" } }).reason._tag, "RateLimitError")
  })

  it("blames every request for a model that is not there or a field that it does not take, and one for all else", () => {
    const parameter = (status: number, error: object = {}) => {
      const { reason } = failed(status, { error })
      return reason._tag === "InvalidRequestError" ? reason.parameter : "another kind"
    }
    assert.strictEqual(parameter(404), "model")
    for (const code of ["unsupported_parameter", "unsupported_value", "unknown_parameter", "unknown_value"]) {
      assert.strictEqual(parameter(400, { code }), "provider")
    }
    assert.isUndefined(parameter(400, { code: "context_length_exceeded" }))
    assert.isUndefined(parameter(403, { code: 403, metadata: { flagged_input: "..." } }))
  })

  it("may say when to come back, in seconds or by a date", () => {
    const after = (status: number, value: string) => {
      const { retryAfter } = failed(status, "", { "retry-after": value })
      return retryAfter === undefined ? undefined : Duration.toSeconds(retryAfter)
    }
    assert.deepStrictEqual([after(429, "2"), after(503, "2")], [2, 2])
    assert.strictEqual(after(429, "Thu, 01 Jan 2026 00:00:07 GMT"), 7)
    assert.isUndefined(after(429, "soon"))
    assert.include(failed(429, "", { "retry-after": "2" }).message, "; wait 2s, lower `limits`")
    assert.include(failed(429, "").message, "; lower `limits`")
  })

  it("may say that it is elsewhere, without what may be secret in the address", () => {
    const moved = (location: string) => failed(308, "", { location }).message
    assert.include(moved("/v2/chat?key=other"), "it is at https://host:8/v2/chat now")
    assert.include(moved("https://a:b@there/v1#c"), "it is at https://there/v1 now")
    assert.include(moved("https://"), "it is at another address now")
  })

  it.each([
    [{ error: "text" }, "text"],
    [{ error: { message: "inner" }, message: "outer" }, "inner"],
    [{ error: { message: null }, message: "outer" }, "outer"],
    [{ message: "outer", detail: "more" }, "outer"],
    [{ detail: "more" }, "more"],
    [{ detail: ["a list"] }, '{"detail":["a list"]}'],
    ["<h1>\n\tBad\u001b[31m\u0000 gateway</h1> ", "<h1> Bad [31m gateway</h1>"],
    ["", "it gives no reason"],
    [" \n", "it gives no reason"]
  ])("says why in one line: %j", (body, said) => {
    assert.include(failed(500, body).message, `answered 500: ${said} (model`)
  })

  it("says no more than 500 characters of why", () => {
    assert.include(failed(500, "x".repeat(600)).message, `: ${"x".repeat(500)} (model`)
  })
})

describe("an answer of another shape", () => {
  it("is that of a server of another kind, or of one request where the server can be read", () => {
    const error = Failure.unexpected(place, '{"data":[]}', "Missing key\n  choices")
    assert.strictEqual(error.reason._tag, "InvalidResponseError")
    assert.include(error.message, "answered with JSON of another shape: Missing key choices (model")
    const said = Failure.unexpected(place, '{"error" : {"message":"no such route"}}', "Missing key")
    assert.include(said.message, "another shape: no such route (model")

    assert.deepStrictEqual([error, failed(404), failed(400), failed(500)].map(Failure.isOdd), [
      true,
      true,
      false,
      false
    ])
    const one = Failure.ofOneRequest(error)
    assert.deepStrictEqual([...kind(one), one.message], ["InvalidOutputError", false, error.message])
    const missing = Failure.ofOneRequest(failed(404))
    assert.deepStrictEqual(kind(missing), ["InvalidRequestError", false])
    assert.isFalse(Failure.isOdd(missing))
  })

  it("that is no JSON may be a torn one, and is asked for again; one that cannot be used is not", () => {
    const torn = Failure.notJson(place, `<html>${"x".repeat(300)}`)
    assert.isTrue(torn.isRetryable)
    assert.include(torn.message, `not JSON: "<html>${"x".repeat(194)}" (model`)
    assert.deepStrictEqual(kind(Failure.unusable("Judge", "decide", "no option")), ["InvalidOutputError", false])
    assert.deepStrictEqual(kind(Failure.leftAlone(place)), ["UnknownError", false])
  })
})

describe("a key", () => {
  it("is taken out of what went wrong, and of answers where it is no word like others", () => {
    const scrubbed = (key: string | undefined, failed: boolean) =>
      Failure.scrub(`the key ${key?.trim()}`, key === undefined ? undefined : Redacted.make(key), failed)
    assert.deepStrictEqual(
      [true, false].map((failed) => scrubbed(" 0123456789abcdef\n", failed)),
      ["the key <redacted>", "the key <redacted>"]
    )
    for (const placeholder of ["0123456789abcde", "none"]) {
      assert.strictEqual(scrubbed(placeholder, true), "the key <redacted>")
      assert.strictEqual(scrubbed(placeholder, false), `the key ${placeholder}`)
    }
    assert.strictEqual(scrubbed("key", true), "the key key")
    assert.strictEqual(scrubbed(undefined, true), "the key undefined")
    assert.strictEqual(Failure.scrub("a", Redacted.make(""), true), "a")
  })
})
