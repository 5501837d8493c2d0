/** What the hosted providers share: limits around their calls, and the accounts of them. */
export * as AnswerCache from "./AnswerCache.ts"
export * as Budget from "./Budget.ts"
export * as Estimate from "./Estimate.ts"
export * as Tokens from "./Tokens.ts"
export * as Usage from "./Usage.ts"
