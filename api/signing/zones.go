package signing

import (
	"strconv"
	"strings"
	"sync"
	"time"
)

// zoneTable is spec/rest-core appendix A: offset, then names. Some choices are unusual (AST is +3); they are the original's.
const zoneTable = `
-11:00 NUT SST
-10:00 CKT HST TAHT
-09:00 AKST GAMT HDT
-08:00 AKDT PST PT
-07:00 MST MT PDT
-06:00 CST CT EAST GALT MDT
-05:00 ACT CDT CIST COT EASST ECT EST ET PET
-04:00 AMT AT BOT CIDST CLT EDT FKT GYT PYT VET
-03:00 AMST ART BRT CLST FKST GFT PMST PYST ROTT SRT UYT WARST WGT
-02:00 BRST FNT PMDT UYST WGST
-01:00 AZOT CVT EGT
+00:00 AZOST EGST GMT UTC WET WT Z
+01:00 CET WAT WEST
+02:00 CAT CEST EET SAST WAST
+02:30 NDT
+03:00 AST EAT EEST FET IDT MSK SYOT TRT
+03:30 IRST NST
+04:00 ADT AZT GET GST KUYT MSD MUT RET SAMT SCT
+04:30 AFT IRDT
+05:00 AQTT AZST MAWT MVT ORAT PKT TFT TJT TMT UZT YEKT
+05:30 IST NPT
+06:00 ALMT BST BTT IOT KGT OMST QYZT VOST YEKST
+06:30 CCT MMT
+07:00 CXT DAVT HOVT ICT KRAT NOVST NOVT OMSST WIB
+08:00 AWST BNT CAST CHOT HKT HOVST IRKT KRAST MYT PHT SGT ULAT WITA
+08:45 ACWST
+09:00 AWDT CHOST IRKST JST KST PWT TLT ULAST WIT YAKT
+09:30 ACST MART
+10:00 AEST AET CHUT DDUT PGT VLAT YAKST YAPT
+10:30 ACDT LHST
+11:00 AEDT KOST LHDT MAGT NCT NFT PONT SAKT SBT SRET VLAST VUT
+12:00 ANAST ANAT FJT GILT MAGST MHT NRT NZST PETST PETT TVT WAKT WFT
+12:45 CHAST
+13:00 FJST NZDT PHOT TKT TOT
+13:45 CHADT
+14:00 LINT TOST WST
-12:00 Y
-11:00 X
-10:00 W
-09:00 V
-08:00 U
-07:00 T
-06:00 S
-05:00 R
-04:00 Q
-03:00 P
-02:00 O
-01:00 N
+01:00 A
+02:00 B
+03:00 C
+04:00 D
+05:00 E
+06:00 F
+07:00 G
+08:00 H
+09:00 I
+10:00 K
+11:00 L
+12:00 M`

// zones maps names to seconds east of UTC.
var zones = sync.OnceValue(func() map[string]int {
	m := make(map[string]int, 220)
	for line := range strings.Lines(strings.TrimSpace(zoneTable)) {
		fields := strings.Fields(line)
		hours, minutes, _ := strings.Cut(fields[0][1:], ":")
		h, _ := strconv.Atoi(hours)
		min, _ := strconv.Atoi(minutes)
		seconds := h*3600 + min*60
		if fields[0][0] == '-' {
			seconds = -seconds
		}
		for _, name := range fields[1:] {
			m[name] = seconds
		}
	}
	return m
})

// zoneOf is the zone of an abbreviation; unknown ones count as UTC.
func zoneOf(name string) *time.Location { return fixed(zones()[name]) }

// wholeHours saves an allocation for nearly every request.
var wholeHours = func() (all [31]*time.Location) {
	for i := range all {
		all[i] = time.FixedZone("", (i-15)*3600)
	}
	return all
}()

func fixed(seconds int) *time.Location {
	if seconds == 0 {
		return time.UTC
	}
	if h := seconds/3600 + 15; seconds%3600 == 0 && h >= 0 && h < len(wholeHours) {
		return wholeHours[h]
	}
	return time.FixedZone("", seconds)
}

// isZoneName tells abbreviations from other words: at most five capitals.
func isZoneName(word string) bool {
	if word == "" || len(word) > 5 {
		return false
	}
	for i := range len(word) {
		if word[i] < 'A' || word[i] > 'Z' {
			return false
		}
	}
	return true
}
