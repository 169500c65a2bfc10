import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
} from "@opentelemetry/sdk-trace";

/** Which traces are kept. `followsParent`: where a caller has decided, that stands. */
export type Sampling = {
  kind: "always_on" | "always_off" | "traceidratio";
  ratio: number;
  followsParent: boolean;
};

export function createSampler(sampling: Sampling): Sampler {
  const root = ownSampler(sampling);
  return sampling.followsParent ? new ParentBasedSampler({ root }) : root;
}

function ownSampler({ kind, ratio }: Sampling): Sampler {
  switch (kind) {
    case "always_on":
      return new AlwaysOnSampler();
    case "always_off":
      return new AlwaysOffSampler();
    case "traceidratio":
      return new TraceIdRatioBasedSampler(ratio);
  }
}
