CREATE TABLE "signing_keys" (
	"purpose" text COLLATE "C" NOT NULL,
	"seq" integer NOT NULL,
	"kid" text COLLATE "C" NOT NULL,
	"sealed" "bytea" NOT NULL,
	"created_at" bigint NOT NULL,
	"not_before" bigint NOT NULL,
	CONSTRAINT "signing_keys_pk" PRIMARY KEY("purpose","seq")
);
