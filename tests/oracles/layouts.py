"""One small file a program, written by hand from its documentation: header, and lines of one variant."""

from __future__ import annotations

LAYOUTS: dict[str, tuple[str, str]] = {
    "GWAS-SSF": ("chromosome\tbase_pair_location\teffect_allele\tother_allele\tbeta\tstandard_error\t"
                 "effect_allele_frequency\tp_value\trsid\tn\n",
                 "1\t1000\tG\tA\t0.1\t0.05\t0.2\t0.0455\trs5\t5000\n"),
    "regenie": ("CHROM GENPOS ID ALLELE0 ALLELE1 A1FREQ INFO N TEST BETA SE CHISQ LOG10P EXTRA\n",
                "1 1000 rs5 A G 0.2 0.9 5000 ADD 0.1 0.05 4 1.342 NA\n1 1000 rs5 A G 0.2 0.9 5000 DOM 0.7 0.05 4 1.342 NA\n"),
    "SAIGE": ("CHR\tPOS\tMarkerID\tAllele1\tAllele2\tAC_Allele2\tAF_Allele2\tMissingRate\tBETA\tSE\tTstat\tvar\tp.value\t"
              "p.value.NA\tIs.SPA\tAF_case\tAF_ctrl\tN_case\tN_ctrl\n",
              "1\t1000\trs5\tA\tG\t2000\t0.2\t0\t0.1\t0.05\t1\t1\t0.0455\t0.04\tfalse\t0.21\t0.19\t2000\t3000\n"),
    "BOLT-LMM": ("SNP\tCHR\tBP\tGENPOS\tALLELE1\tALLELE0\tA1FREQ\tF_MISS\tCHISQ_LINREG\tP_LINREG\tBETA\tSE\t"
                 "CHISQ_BOLT_LMM_INF\tP_BOLT_LMM_INF\tCHISQ_BOLT_LMM\tP_BOLT_LMM\n",
                 "rs5\t1\t1000\t0.1\tG\tA\t0.2\t0\t3\t0.08\t0.1\t0.05\t4\t0.045\t4\t0.0455\n"),
    "fastGWA": ("CHR\tSNP\tPOS\tA1\tA2\tN\tAF1\tBETA\tSE\tP\n", "1\trs5\t1000\tG\tA\t5000\t0.2\t0.1\t0.05\t0.0455\n"),
    "PLINK 2": ("#CHROM\tPOS\tID\tREF\tALT\tA1\tA1_FREQ\tTEST\tOBS_CT\tBETA\tSE\tT_STAT\tP\tERRCODE\n",
                "1\t1000\trs5\tA\tG\tG\t0.2\tADD\t5000\t0.1\t0.05\t2\t0.0455\t.\n"
                "1\t1000\trs5\tA\tG\tG\t0.2\tAGE\t5000\t3\t0.05\t2\t0.0455\t.\n"),
    "PLINK 2 logistic": ("#CHROM\tPOS\tID\tREF\tALT\tPROVISIONAL_REF?\tA1\tOMITTED\tA1_FREQ\tTEST\tOBS_CT\tOR\tLOG(OR)_SE\t"
                         "Z_STAT\tLOG10_P\tERRCODE\n",
                         "1\t1000\trs5\tA\tG\tN\tA\tG\t0.8\tADD\t5000\t0.904837418\t0.05\t-2\t1.342\t.\n"),
    "PLINK 1": (" CHR  SNP   BP  A1  F_A  F_U  A2  CHISQ  P  OR  SE  L95  U95 \n",
                "   1  rs5  1000  G  0.21  0.2  A  4  0.0455  1.105170918  0.05  1.002  1.219 \n"),
    "GEMMA": ("chr\trs\tps\tn_miss\tallele1\tallele0\taf\tbeta\tse\tlogl_H1\tl_remle\tp_wald\n",
              "1\trs5\t1000\t10\tG\tA\t0.2\t0.1\t0.05\t-1\t1\t0.0455\n"),
    "METAL": ("MarkerName\tAllele1\tAllele2\tFreq1\tFreqSE\tEffect\tStdErr\tP-value\tDirection\n",
              "chr1:1000:A:G\ta\tg\t0.8\t0.01\t-0.1\t0.05\t0.0455\t+-\n"),
    "table": ("SNP,CHR,BP,EA,NEA,EAF,OR,OR_95L,OR_95U,P,N\n",
              "rs5,chr1,1000,G,A,0.2,1.105170918,1.0020052,1.2189587,0.0455,5000\n"),
    "GWAS-VCF": ("##fileformat=VCFv4.2\n##contig=<ID=1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tIEU\n",
                 "1\t1000\trs5\tA\tG\t.\tPASS\tAF=0.2\tES:SE:LP:AF:SS:ID\t0.1:0.05:1.342:0.2:5000:rs5\n"
                 "1\t2000\trs6\tA\tC\t.\tPASS\t.\tES:SE:LP:ID\t0.3:0.1:3:rs6\n"),
}  # fmt: skip
