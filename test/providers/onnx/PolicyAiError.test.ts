import { describe, expect, it } from "@effect/vitest"
import { fromPolicyError } from "../../../src/providers/onnx/PolicyAiError.ts"
import { PolicyError } from "../../../src/Policy.ts"

describe("a policy's failure as effect/ai knows it", () => {
  const said = (id: string | undefined) =>
    fromPolicyError(
      "OnnxLanguageModel",
      "generateText"
    )(new PolicyError({ message: "It has no tokens.", retryable: false, ...(id === undefined ? {} : { id }) })).message

  it("names the sample that it concerns, where it has a name", () => {
    expect(said("a")).toMatch(/It has no tokens\. \(sample a\)$/)
    // The id of the sampling outside of a stage.
    expect(said("")).toMatch(/It has no tokens\.$/)
    expect(said(undefined)).toMatch(/It has no tokens\.$/)
  })
})
